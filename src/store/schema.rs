//! The tables as diesel sees them. Columns that the Python service let be null are nullable here.

diesel::table! {
    users (id) {
        id -> Integer,
        username -> Text,
        password_hash -> Text,
        is_vip -> Nullable<Bool>,
        vip_expire_time -> Nullable<Text>,
        status -> Nullable<Integer>,
        created_at -> Nullable<Text>,
        updated_at -> Nullable<Text>,
    }
}

diesel::table! {
    glb_files (id) {
        id -> Integer,
        hashed_name -> Text,
        original_name -> Nullable<Text>,
        file_path -> Text,
        user_id -> Integer,
        file_size -> Nullable<BigInt>,
        created_at -> Nullable<Text>,
        is_public -> Nullable<Bool>,
    }
}

diesel::table! {
    jobs (id) {
        id -> BigInt,
        user_id -> Integer,
        kind -> Text,
        original_name -> Text,
        options_json -> Text,
        input_key -> Text,
        dir -> Text,
        state -> Text,
        hashed_name -> Nullable<Text>,
        reason -> Nullable<Text>,
        created_at -> Text,
        started_at -> Nullable<Text>,
        finished_at -> Nullable<Text>,
        deaths -> Integer,
        tries -> Integer,
        next_try_at -> Nullable<Text>,
    }
}

diesel::table! {
    kept_inputs (job_id) {
        job_id -> BigInt,
        keep_until -> Text,
    }
}

diesel::table! {
    job_warnings (job_id) {
        job_id -> BigInt,
        warnings_json -> Text,
    }
}

diesel::table! {
    drafts (id) {
        id -> BigInt,
        user_id -> Integer,
        options_json -> Text,
        dir -> Text,
        next_file -> Integer,
        created_at -> Text,
        expires_at -> Text,
    }
}

diesel::table! {
    draft_files (draft_id, number) {
        draft_id -> BigInt,
        number -> Integer,
        name -> Text,
        metadata -> Text,
        length -> BigInt,
        received -> BigInt,
    }
}

diesel::table! {
    results (user_id, input_key) {
        user_id -> Integer,
        input_key -> Text,
        glb_id -> Integer,
        created_at -> Text,
    }
}

diesel::table! {
    kept_spools (glb_id) {
        glb_id -> Integer,
        user_id -> Integer,
        bytes -> BigInt,
    }
}

diesel::table! {
    known_addresses (user_id, address) {
        user_id -> Integer,
        address -> Text,
        last_login_at -> Text,
    }
}

diesel::table! {
    session_ends (user_id) {
        user_id -> Integer,
        count -> BigInt,
    }
}

diesel::table! {
    access_tokens (id) {
        id -> BigInt,
        secret_hash -> Text,
        user_id -> Integer,
        user_stamp -> Text,
        name -> Nullable<Text>,
        created_at -> Text,
        last_used_at -> Nullable<Text>,
        expires_at -> Nullable<Text>,
    }
}

diesel::table! {
    share_links (id) {
        id -> BigInt,
        secret_hash -> Text,
        glb_id -> Integer,
        user_id -> Integer,
        options_json -> Text,
        created_at -> Text,
        expires_at -> Nullable<Text>,
    }
}

diesel::table! {
    result_scales (glb_id) {
        glb_id -> Integer,
        meters_per_unit -> Double,
    }
}

diesel::table! {
    identity (id) {
        id -> Integer,
        identifier -> Text,
        created_at -> Text,
    }
}

diesel::table! {
    removed_files (file_path) {
        file_path -> Text,
        since -> Nullable<Text>,
        process -> Nullable<Text>,
    }
}

diesel::table! {
    draft_parts (draft_id, number, start) {
        draft_id -> BigInt,
        number -> Integer,
        start -> BigInt,
        length -> BigInt,
        name -> Text,
    }
}

diesel::joinable!(results -> glb_files (glb_id));
diesel::joinable!(kept_spools -> glb_files (glb_id));
diesel::joinable!(known_addresses -> users (user_id));
diesel::joinable!(session_ends -> users (user_id));
diesel::joinable!(access_tokens -> users (user_id));
diesel::joinable!(share_links -> glb_files (glb_id));
diesel::joinable!(share_links -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(
    users,
    glb_files,
    jobs,
    kept_inputs,
    job_warnings,
    drafts,
    draft_files,
    draft_parts,
    results,
    kept_spools,
    known_addresses,
    session_ends,
    access_tokens,
    share_links,
    removed_files,
);
