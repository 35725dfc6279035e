//! An object, and what is stored with it.

use object_store::{Attribute, Attributes, GetResult};

use crate::store::random::hex;

/// Names of the metadata of an object: `x-amz-meta-vggt-sha256` and `x-amz-meta-vggt-length`.
const SHA256: &str = "vggt-sha256";
const LENGTH: &str = "vggt-length";

/// A digest of bytes.
pub(super) type Digest = [u8; 32];

/// An object as a reader expects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketObject {
    /// Key below the prefix.
    pub key: String,
    /// Number of bytes.
    pub length: u64,
    /// Digest of the bytes; `None` when another program stored the object and left none.
    pub sha256: Option<[u8; 32]>,
}

impl BucketObject {
    /// Reads what an answer says of an object.
    ///
    /// # Errors
    /// When its length is not the one that was stored.
    pub(super) fn of(key: &str, got: &GetResult) -> Result<Self, String> {
        let value = |name: &'static str| got.attributes.get(&Attribute::Metadata(name.into()));
        let length = got.meta.size;
        if let Some(stored) = value(LENGTH)
            && stored.parse() != Ok(length)
        {
            return Err(format!(
                "it has {length} bytes; {:?} were stored",
                stored.as_ref()
            ));
        }
        let sha256 = match value(SHA256) {
            None => None,
            Some(text) => {
                Some(digest(text).ok_or_else(|| format!("{:?} is no SHA-256", text.as_ref()))?)
            }
        };
        Ok(Self {
            key: key.to_owned(),
            length,
            sha256,
        })
    }

    /// Returns the digest that an object claims to have.
    pub(super) fn claimed(got: &GetResult) -> Option<Digest> {
        let found = got.attributes.get(&Attribute::Metadata(SHA256.into()));
        found.and_then(|text| digest(text))
    }

    /// Returns the metadata to store with it.
    pub(super) fn attributes(&self) -> Attributes {
        let mut all = Attributes::new();
        all.insert(
            Attribute::Metadata(LENGTH.into()),
            self.length.to_string().into(),
        );
        if let Some(sha256) = &self.sha256 {
            all.insert(Attribute::Metadata(SHA256.into()), hex(sha256).into());
        }
        all
    }

    /// Returns whether another answer is of the same bytes, as far as both say.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_digest = match (&self.sha256, &other.sha256) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.length == other.length && same_digest
    }
}

fn digest(text: &str) -> Option<Digest> {
    let bytes = text.as_bytes();
    if bytes.len() != 64 || !bytes.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut digest = [0; 32];
    for (i, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some(digest)
}
