//! Random bytes of the operating system.

use super::StoreError;

/// Returns `N` bytes that nobody can guess.
///
/// # Errors
/// When the operating system has none.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| StoreError::Random(e.to_string()))?;
    Ok(bytes)
}

/// Returns 64 hex digits that nobody can guess, as the hash of a file has.
///
/// # Errors
/// When the operating system has no random bytes.
pub fn random_hash() -> Result<String, StoreError> {
    Ok(hex(&random::<32>()?))
}

/// Returns the bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
