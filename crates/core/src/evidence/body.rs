//! Body: a mark of everything that stands before an offset, made while it is read.
//!
//! Owns: the sum of the bytes, KiB by KiB, and the mark that stands for it in records, from which the sum continues after a restart.
//! Does not own: what stands behind the last whole KiB (the witness before the offset covers it), when bodies are compared (each source decides).
//!
//! Every byte passes here, so HMAC would cost too much. Each KiB is hashed with NH on words of 64 bits (Black et al., UMAC, CRYPTO 1999), and the
//! hashes modulo the prime 2^61 − 1 are the coefficients of two polynomials over it, each evaluated at a secret point: two different contents share a sum
//! with a probability of about 1 / 2^58. The sum is linear in the content, so it is never shown: its mark is the sum under a Feistel cipher of four
//! rounds of HMAC-SHA-256 (Luby and Rackoff, 1988). The form is kept in records: changing any of it makes all bodies differ.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::{Key, Mark};

/// Bytes that are summed at a time. A body ends at a multiple of this.
pub const BLOCK_BYTES: usize = 1024;

const WORD_BYTES: usize = 8;
const PRIME: u64 = (1 << 61) - 1;

/// What a key makes of bodies.
pub(super) struct Secret {
    block: [u64; BLOCK_BYTES / WORD_BYTES],
    points: [u64; 2],
    cipher: Hmac<Sha256>,
}

impl Secret {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let derive =
            |number: u64| Sha256::new().chain_update(b"pintail: bodies").chain_update(key).chain_update(number.to_le_bytes()).finalize();
        let word = |number: u64| u64::from_le_bytes(std::array::from_fn(|at| derive(number)[at]));
        Self {
            block: std::array::from_fn(|at| word(at as u64)),
            points: [word(1000), word(1001)].map(reduce),
            cipher: Hmac::new_from_slice(&derive(2000)).expect("HMAC takes keys of any length"),
        }
    }

    fn add(&self, sum: &mut [u64; 2], block: &[u8; BLOCK_BYTES]) {
        let mut hash = 0_u128;
        // Four products at a time: every byte of the input passes here.
        for (words, key) in block.as_chunks::<{ 8 * WORD_BYTES }>().0.iter().zip(self.block.as_chunks::<8>().0) {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| words[at * WORD_BYTES + byte])).wrapping_add(key[at]);
            let product = |at: usize| u128::from(word(at)) * u128::from(word(at + 1));
            hash = hash.wrapping_add(product(0)).wrapping_add(product(2)).wrapping_add(product(4)).wrapping_add(product(6));
        }
        let prime = u128::from(PRIME);
        let hash = reduce(low((hash & prime) + (hash >> 61 & prime) + (hash >> 122)));
        for (sum, point) in sum.iter_mut().zip(self.points) {
            *sum = multiply(reduce(*sum + hash), point);
        }
    }

    fn encipher(&self, sum: [u64; 2]) -> Mark {
        let [mut left, mut right] = sum;
        for round in 0..ROUNDS {
            (left, right) = (right, left ^ self.round(round, right));
        }
        let mut mark = [0; 16];
        mark[..WORD_BYTES].copy_from_slice(&left.to_le_bytes());
        mark[WORD_BYTES..].copy_from_slice(&right.to_le_bytes());
        Mark(mark)
    }

    fn decipher(&self, mark: Mark) -> Option<[u64; 2]> {
        let half = |from: usize| u64::from_le_bytes(std::array::from_fn(|at| mark.0[from + at]));
        let [mut left, mut right] = [half(0), half(WORD_BYTES)];
        for round in (0..ROUNDS).rev() {
            (left, right) = (right ^ self.round(round, left), left);
        }
        (left < PRIME && right < PRIME).then_some([left, right])
    }

    fn round(&self, round: u8, half: u64) -> u64 {
        let digest = self.cipher.clone().chain_update([round]).chain_update(half.to_le_bytes()).finalize().into_bytes();
        u64::from_le_bytes(std::array::from_fn(|at| digest[at]))
    }
}

const ROUNDS: u8 = 4;

/// The sum of what was read so far.
#[derive(Clone)]
pub struct Body {
    secret: Arc<Secret>,
    sum: [u64; 2],
    /// What is not summed yet: less than a block.
    rest: Vec<u8>,
    length: u64,
}

impl Body {
    /// Begins at the first byte.
    pub fn new(key: &Key) -> Self {
        Self { secret: key.secret(), sum: [0; 2], rest: Vec::new(), length: 0 }
    }

    /// Continues at an offset with the mark that was made there. `last` is what stands before the offset: a KiB, or all if that is less. `None` if the
    /// mark is missing or was made with another key.
    pub fn resume(key: &Key, mark: Option<Mark>, offset: u64, last: &[u8]) -> Option<Self> {
        let secret = key.secret();
        let sum = match mark {
            _ if offset < BLOCK_BYTES as u64 => [0; 2],
            mark => secret.decipher(mark?)?,
        };
        let rest = usize::try_from(offset % BLOCK_BYTES as u64).ok()?;
        let rest = last[last.len().checked_sub(rest)?..].to_vec();
        Some(Self { secret, sum, rest, length: offset })
    }

    /// Takes what stands next.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if !self.rest.is_empty() {
            let missing = (BLOCK_BYTES - self.rest.len()).min(bytes.len());
            self.rest.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            let Ok(block) = self.rest[..].try_into() else { return };
            self.secret.add(&mut self.sum, block);
            self.rest.clear();
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
        blocks.iter().for_each(|block| self.secret.add(&mut self.sum, block));
        self.rest.extend_from_slice(rest);
    }

    /// Returns how many bytes were taken up.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Returns the mark of all whole KiB; `None` if there is none yet.
    pub fn mark(&self) -> Option<Mark> {
        (self.length >= BLOCK_BYTES as u64).then(|| self.secret.encipher(self.sum))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.length).finish_non_exhaustive()
    }
}

fn low(hash: u128) -> u64 {
    u64::try_from(hash & u128::from(u64::MAX)).expect("the upper half is masked")
}

/// Returns a number below the prime, or the prime itself, that is the same modulo it.
fn reduce(number: u64) -> u64 {
    let folded = (number & PRIME) + (number >> 61);
    if folded >= PRIME { folded - PRIME } else { folded }
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    reduce(low(product & u128::from(PRIME)) + low(product >> 61))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> Key {
        Key::new([7; 32])
    }

    fn mark(content: &[u8]) -> Option<Mark> {
        let mut body = Body::new(&key());
        body.push(content);
        body.mark()
    }

    fn content() -> impl Strategy<Value = Vec<u8>> {
        (0_usize..6000, any::<u8>()).prop_map(|(length, seed)| (0..length).map(|at| (at * 7 + at / 251) as u8 ^ seed).collect())
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut_and_wherever_it_was_resumed(
            content in content(),
            cuts in proptest::collection::vec(0_usize..6000, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(content.len())).chain([content.len()]).collect();
            cuts.sort_unstable();
            let (mut body, mut at) = (Body::new(&key()), 0);
            for cut in cuts {
                body.push(&content[at..cut]);
                at = cut;
                let last = &content[at.saturating_sub(BLOCK_BYTES)..at];
                body = Body::resume(&key(), body.mark(), at as u64, last).unwrap();
                prop_assert_eq!(body.mark(), mark(&content[..at]));
            }
            prop_assert_eq!(body.length(), content.len() as u64);
        }

        #[test]
        fn any_change_of_a_whole_kilobyte_is_another_body(content in content(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let whole = content.len() / BLOCK_BYTES * BLOCK_BYTES;
            prop_assume!(whole > 0);
            let mut changed = content.clone();
            changed[at.index(whole)] ^= 1 << bit;
            prop_assert_ne!(mark(&content), mark(&changed));
            prop_assert_ne!(mark(&content[..whole]), mark(&[&content[..whole], &[0; BLOCK_BYTES]].concat()));
        }
    }

    #[test]
    fn the_order_of_kilobytes_counts_and_so_does_the_key() {
        let blocks = |first: u8, second: u8| [[first; BLOCK_BYTES], [second; BLOCK_BYTES]].concat();
        assert_ne!(mark(&blocks(1, 2)), mark(&blocks(2, 1)));
        let mut other = Body::new(&Key::new([8; 32]));
        other.push(&blocks(1, 2));
        assert_ne!(other.mark(), mark(&blocks(1, 2)));
        assert!(Body::resume(&key(), None, 5000, &[0; BLOCK_BYTES]).is_none(), "a record of an earlier version has none");
    }

    #[test]
    fn the_form_is_the_one_in_records() {
        // Computed by a second implementation in Python, from the description above.
        let content: Vec<u8> = (0..5000_u32).map(|at| (at * 7 % 251) as u8).collect();
        assert_eq!(mark(&content).unwrap().to_string(), "0b11bb524804a40a744a87a4685ab3c3");
    }
}
