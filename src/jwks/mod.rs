//! Reads JSON Web Key Sets (RFC 7517) and finds the keys that may have signed a token.

mod key;

use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

pub use self::key::ALGORITHMS;
use self::key::{Key, quoted};

/// Maximum number of keys named in a message.
const MAX_NAMED: usize = 10;

/// The public keys of an issuer.
#[derive(Default)]
pub struct KeySet {
    keys: Vec<Key>,
    /// Keys that cannot verify a signature: name and cause.
    ignored: Vec<String>,
}

impl KeySet {
    /// Reads a JSON Web Key Set without the keys that cannot verify a signature (RFC 7517, section 5).
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(list) = document.get("keys").and_then(Value::as_array) else {
            return Err("is not a JSON Web Key Set: it has no list `keys`".to_owned());
        };
        let mut set = Self::default();
        for (value, number) in list.iter().zip(1..) {
            match Key::parse(value) {
                Ok(key) => set.keys.push(key),
                Err(cause) => set
                    .ignored
                    .push(format!("{}: {cause}", name(value, number))),
            }
        }
        Ok(set)
    }

    /// Reads a set, and fails if none of its keys can verify a signature.
    pub fn parse_usable(bytes: &[u8]) -> Result<Self, String> {
        let set = Self::parse(bytes)?;
        if !set.is_empty() {
            return Ok(set);
        }
        let causes = set.describe_unusable_keys().map(|keys| format!(": {keys}"));
        let causes = causes.unwrap_or_default();
        Err(format!(
            "holds no public key that can verify a signature{causes}"
        ))
    }

    /// Returns the keys that were left out, with the causes, as one text, or `None` if there are none.
    pub fn describe_unusable_keys(&self) -> Option<String> {
        let named = self.ignored.get(..MAX_NAMED).unwrap_or(&self.ignored);
        let more = match self.ignored.len() - named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        (!named.is_empty()).then(|| named.join("; ") + &more)
    }

    /// Returns whether no key can verify a signature.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns whether a key can verify signatures of one of these algorithms.
    pub fn serves(&self, algorithms: &[Algorithm]) -> bool {
        let mut served = self.keys.iter().flat_map(|key| &key.algorithms);
        served.any(|algorithm| algorithms.contains(algorithm))
    }

    /// Returns the keys that may have signed a token with this key ID and algorithm: the keys with this ID or, if
    /// there are none, the keys without an ID. If the token has no key ID, returns all keys for the algorithm.
    pub fn find<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        let known = self.contains_id(id);
        let fitting = move |key: &&Key| {
            let own = key.id.as_deref();
            let named = id.is_none() || own == id || !known && own.is_none();
            named && key.algorithms.contains(&algorithm)
        };
        self.keys.iter().filter(fitting).map(|key| &key.public)
    }

    pub fn contains_id(&self, id: Option<&str>) -> bool {
        let mut ids = self.keys.iter().map(|key| key.id.as_deref());
        id.is_some() && ids.any(|own| own == id)
    }
}

/// Returns the name of a key for messages: its `kid`, or its place in the list.
fn name(value: &Value, number: usize) -> String {
    match value.get("kid") {
        Some(Value::String(id)) => quoted(id),
        Some(id) => quoted(&id.to_string()),
        None => format!("key {number} without `kid`"),
    }
}
