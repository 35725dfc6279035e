DROP TABLE removed_files, identity, draft_files, drafts, share_links, access_tokens, session_ends, known_addresses, result_scales,
    kept_spools, results, job_warnings, kept_inputs, jobs, glb_files, users;
