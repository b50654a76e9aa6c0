//! Which requests block their thread, learned from earlier calls.
//!
//! A call that computes is best run by the thread that parsed its request: more threads would only compete for the interpreter.
//! A call that blocks (on a database, say) is best given to a thread of its own at once. Which is which is found by the wall
//! time of every call, and the processor time of those that seemed slow.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Rows of the table; a path that hashes to another's row takes it over.
const ROWS: usize = 4096;
/// After a call longer than this, the processor time of the next one is measured.
const SLOW: Duration = Duration::from_micros(150);
/// What a call that blocked adds to its path's score. One that did not takes 1 away.
const BLOCKED_SCORE: u32 = 4;
/// From this score on a path counts as blocking: one measured call is enough.
const BLOCKING_SCORE: u32 = 4;
/// The highest score: so many quick calls in a row, less the threshold, end it.
const MAX_SCORE: u32 = 12;

const SCORE: u32 = 0xff;
const SUSPECT: u32 = 0x100;
const TAG: u32 = 0xffff_0000;

/// A number for a method and path, the same for the life of the process.
pub fn key(method: &[u8], path: &[u8]) -> u64 {
    // Short inputs, no secrets to keep, and a collision only costs a wrong guess.
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 32
    };
    let mut hash = method.iter().fold(method.len() as u64, |hash, byte| mix(hash, u64::from(*byte)));
    let mut rest = path;
    while let Some((word, behind)) = rest.split_first_chunk() {
        hash = mix(hash, u64::from_le_bytes(*word));
        rest = behind;
    }
    rest.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)))
}

/// The table. Its cells are hints: a lost update only delays a decision.
pub struct BlockingProfile {
    rows: Box<[AtomicU32]>,
    // What is assumed of paths without a row, such as those that carry an identifier.
    default_entry: AtomicU32,
}

impl Default for BlockingProfile {
    fn default() -> Self {
        Self { rows: (0..ROWS).map(|_| AtomicU32::new(0)).collect(), default_entry: AtomicU32::new(0) }
    }
}

impl BlockingProfile {
    fn cell(&self, key: u64) -> (&AtomicU32, u32) {
        #[expect(clippy::cast_possible_truncation, reason = "a hash is cut to the bits that are wanted")]
        let (row, tag) = (key as usize % ROWS, (key >> 32) as u32 & TAG | 0x1_0000);
        (&self.rows[row], tag)
    }

    fn entry(&self, key: u64) -> u32 {
        let (cell, tag) = self.cell(key);
        let value = cell.load(Ordering::Relaxed);
        if value & TAG == tag { value } else { self.default_entry.load(Ordering::Relaxed) }
    }

    /// Whether such requests block, as far as is known.
    pub fn is_blocking(&self, key: u64) -> bool {
        self.entry(key) & SCORE >= BLOCKING_SCORE
    }

    /// Whether the next call's processor time should be measured.
    pub fn is_suspect(&self, key: u64) -> bool {
        self.entry(key) & (SCORE | SUSPECT) != 0
    }

    /// Learns from one call: how long it took, and how long it computed if that was measured.
    pub fn note(&self, key: u64, wall: Duration, processor: Option<Duration>) {
        let (cell, tag) = self.cell(key);
        let value = cell.load(Ordering::Relaxed);
        let known = value & TAG == tag;
        if !known || value & (SCORE | SUSPECT) != 0 || wall >= SLOW {
            let old = if known { value } else { self.default_entry.load(Ordering::Relaxed) };
            cell.store(tag | updated(old, wall, processor), Ordering::Relaxed);
        }
        if !known {
            let old = self.default_entry.load(Ordering::Relaxed);
            let new = updated(old, wall, processor);
            if new != old {
                self.default_entry.store(new, Ordering::Relaxed);
            }
        }
    }
}

fn updated(old: u32, wall: Duration, processor: Option<Duration>) -> u32 {
    let score = old & SCORE;
    if wall < SLOW {
        return match score {
            0 => 0,
            _ => (score - 1) | SUSPECT,
        };
    }
    match processor {
        None => score | SUSPECT,
        Some(computed) if computed < wall / 2 => (score + BLOCKED_SCORE).min(MAX_SCORE) | SUSPECT,
        Some(_) => score.saturating_sub(1) | SUSPECT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn path_that_blocks_is_known_after_its_second_call() {
        let profile = BlockingProfile::default();
        let path = key(b"GET", b"/slow");
        profile.note(path, 10 * MS, None);
        assert!(profile.is_suspect(path) && !profile.is_blocking(path));
        profile.note(path, 10 * MS, Some(MS));
        assert!(profile.is_blocking(path));
    }

    #[test]
    fn path_that_computes_is_never_taken_for_blocking() {
        let profile = BlockingProfile::default();
        let path = key(b"GET", b"/compute");
        for _ in 0..100 {
            profile.note(path, 10 * MS, Some(9 * MS));
        }
        assert!(!profile.is_blocking(path));
    }

    #[test]
    fn path_that_became_quick_returns_after_several_calls() {
        let profile = BlockingProfile::default();
        let path = key(b"GET", b"/");
        profile.note(path, 10 * MS, Some(MS));
        profile.note(path, 10 * MS, Some(MS));
        assert!(profile.is_blocking(path));
        profile.note(path, MS / 100, Some(MS / 100));
        assert!(profile.is_blocking(path), "one quick call is not enough");
        for _ in 0..MAX_SCORE {
            profile.note(path, MS / 100, None);
        }
        assert!(!profile.is_blocking(path) && !profile.is_suspect(path));
    }

    #[test]
    fn paths_without_a_row_share_what_was_learned_of_others() {
        let profile = BlockingProfile::default();
        for id in 0..3 {
            profile.note(key(b"GET", format!("/user/{id}").as_bytes()), 10 * MS, Some(MS));
        }
        assert!(profile.is_blocking(key(b"GET", b"/user/99")));
        assert!(!BlockingProfile::default().is_blocking(key(b"GET", b"/user/99")));
    }
}
