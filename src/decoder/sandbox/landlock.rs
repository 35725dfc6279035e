//! No file, no address: Landlock.

use landlock::{
    ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope,
};

/// Refuses every file by its name and every connection from now on, as far as the kernel can. Returns what it lacks.
pub(super) fn give_up_files() -> Option<String> {
    match restrict() {
        Ok(RulesetStatus::NotEnforced) => Some("Landlock (access to files)".to_owned()),
        Ok(_) => None,
        Err(e) => Some(format!("Landlock (access to files: {e})")),
    }
}

/// Rules that permit nothing. Older kernels know a part of them.
fn restrict() -> Result<RulesetStatus, RulesetError> {
    let ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    Ok(ruleset.restrict_self()?.ruleset)
}
