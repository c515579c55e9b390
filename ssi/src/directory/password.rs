//! Passwords: in the source as they are, in an object directory only as hashes.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};

const SALT_LEN_BYTES: usize = 16;
const HASH_LEN_BYTES: usize = 32;

/// How much work a guess at a password is: argon2id's memory in KiB and passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashCost {
    /// Memory, KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
}

impl Default for HashCost {
    /// As OWASP's password storage cheat sheet has it for argon2id: 19 MiB, two passes.
    fn default() -> Self {
        Self { memory_kib: 19 << 10, passes: 2 }
    }
}

impl HashCost {
    /// The least that argon2 does, for tests.
    pub const LEAST: Self = Self { memory_kib: 8, passes: 1 };
    /// What is done for a directory of whatever origin: a check must end.
    const MOST: Self = Self { memory_kib: 256 << 10, passes: 16 };
}

/// How a user is let in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Password {
    /// With the password of this hash.
    Hash {
        /// The work it took.
        cost: HashCost,
        /// Random.
        salt: [u8; SALT_LEN_BYTES],
        /// argon2id of both.
        hash: [u8; HASH_LEN_BYTES],
    },
    /// Not at all.
    NoLog,
    /// By XAUTOLOG only.
    AutoOnly,
    /// With the password of one of those of LOGONBY.
    LbyOnly,
    /// Without one.
    NoPass,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Hash { .. } => "(hash)",
            Self::NoLog => "NOLOG",
            Self::AutoOnly => "AUTOONLY",
            Self::LbyOnly => "LBYONLY",
            Self::NoPass => "NOPASS",
        })
    }
}

impl Password {
    /// What the source says.
    ///
    /// # Errors
    /// The kernel gives no random numbers, or the cost is not one of argon2's.
    pub fn compile(text: &str, cost: HashCost) -> Result<Self, String> {
        Ok(match text {
            "NOLOG" => Self::NoLog,
            "AUTOONLY" => Self::AutoOnly,
            "LBYONLY" => Self::LbyOnly,
            "NOPASS" => Self::NoPass,
            text => {
                let mut salt = [0; SALT_LEN_BYTES];
                rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())
                    .map_err(|error| format!("the kernel gives no random numbers: {error}"))?;
                Self::Hash { cost, salt, hash: hash(text, &salt, cost)? }
            }
        })
    }

    /// Whether this is the password. Case does not count, as in z/VM.
    pub fn is(&self, text: &str) -> bool {
        match self {
            Self::Hash { cost, salt, hash: known } => {
                let found = hash(&text.to_ascii_uppercase(), salt, *cost);
                // Every byte is looked at, so that time tells nothing.
                found.is_ok_and(|found| found.iter().zip(known).fold(0, |all, (a, b)| all | (a ^ b)) == 0)
            }
            Self::NoPass => true,
            Self::NoLog | Self::AutoOnly | Self::LbyOnly => false,
        }
    }
}

fn hash(text: &str, salt: &[u8], cost: HashCost) -> Result<[u8; HASH_LEN_BYTES], String> {
    if cost.memory_kib > HashCost::MOST.memory_kib || cost.passes > HashCost::MOST.passes {
        return Err("the hash costs too much".to_owned());
    }
    let params = Params::new(cost.memory_kib, cost.passes, 1, Some(HASH_LEN_BYTES))
        .map_err(|error| error.to_string())?;
    let mut out = [0; HASH_LEN_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.as_bytes(), salt, &mut out)
        .map_err(|error| error.to_string())?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_by_its_hash_only() {
        let password = Password::compile("SECRET", HashCost::LEAST).unwrap();
        assert!(password.is("secret") && !password.is("SECRET1") && !password.is(""));
        assert_ne!(password, Password::compile("SECRET", HashCost::LEAST).unwrap());
        assert!(!postcard::to_allocvec(&password).unwrap().windows(6).any(|window| window == b"SECRET"));
        for word in ["NOLOG", "AUTOONLY", "LBYONLY"] {
            assert!(!Password::compile(word, HashCost::LEAST).unwrap().is(word));
        }
    }
}
