//! Session tickets (RFC 5077, RFC 8446 §2.2) that every process with the same secret can resume.
//!
//! Keys follow from a secret and from time alone, so that processes need not speak to each other. A key encrypts tickets for one
//! period and opens them for one more. Who reads the secret from the server's memory can open all tickets since its start.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Prk};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

/// How long one key encrypts tickets.
const PERIOD_SECONDS: u64 = 6 * 60 * 60;
const NAME_BYTES: usize = 8;

/// What the keys follow from: a secret and its period.
#[derive(Clone)]
pub struct TicketSecret {
    secret: [u8; 32],
    period: u64,
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketSecret").field("period", &self.period).finish_non_exhaustive()
    }
}

impl TicketSecret {
    /// A fresh one. `None`: the system has no random numbers.
    pub fn random(now: SystemTime) -> Option<Self> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).ok()?;
        Some(Self { secret, period: period(now) })
    }

    /// The secret of a later period; of one that is not later, this one.
    fn at(&self, period: u64) -> Self {
        let mut secret = self.clone();
        // A machine may have slept for a year: no more steps than that has.
        while secret.period < period && period - secret.period < 4 * 366 * 10 {
            secret.secret = secret.derive(b"next period");
            secret.period += 1;
        }
        secret.period = secret.period.max(period);
        secret
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut derived = [0; 32];
        let info = [purpose];
        // It fails for lengths that the function does not have, and 32 is its own.
        if let Ok(okm) = Prk::new_less_safe(HKDF_SHA256, &self.secret).expand(&info, HKDF_SHA256) {
            let _ = okm.fill(&mut derived);
        }
        derived
    }
}

// rustls asks without an instant.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(UnixTime::now().as_secs())
}

fn period(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / PERIOD_SECONDS)
}

struct TicketKey {
    period: u64,
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl TicketKey {
    fn new(secret: &TicketSecret) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret.derive(b"key")).ok()?);
        let name = *secret.derive(b"name").first_chunk()?;
        Some(Self { period: secret.period, name, key })
    }
}

struct TicketKeys {
    secret: TicketSecret,
    current: TicketKey,
    former: Option<TicketKey>,
}

impl TicketKeys {
    fn turn(&mut self, period: u64) -> Option<()> {
        if period <= self.current.period {
            return Some(());
        }
        let before = self.secret.at(period - 1);
        let secret = before.at(period);
        let former = TicketKey::new(&before)?;
        self.current = TicketKey::new(&secret)?;
        self.former = Some(former);
        self.secret = secret;
        Some(())
    }
}

/// Encrypts and opens tickets.
pub struct Tickets {
    keys: Mutex<TicketKeys>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

impl Tickets {
    /// Those of a secret. `None`: the cryptography fails, which it does not for the lengths that are used here.
    pub fn new(secret: TicketSecret) -> Option<Self> {
        let current = TicketKey::new(&secret)?;
        Some(Self { keys: Mutex::new(TicketKeys { secret, current, former: None }) })
    }

    fn keys(&self) -> MutexGuard<'_, TicketKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn encrypt_at(&self, plain: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let mut keys = self.keys();
        keys.turn(period(now))?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let key = &keys.current;
        key.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(key.name), &mut sealed).ok()?;
        Some([&key.name[..], &nonce[..], &sealed[..]].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now: SystemTime) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut keys = self.keys();
        keys.turn(period(now))?;
        let key = [Some(&keys.current), keys.former.as_ref()].into_iter().flatten().find(|key| key.name == *name)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = key.key.open_in_place(nonce, Aad::from(key.name), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // A ticket can be opened for at least one period.
        u32::try_from(PERIOD_SECONDS).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(period: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(period * PERIOD_SECONDS + 7)
    }

    #[test]
    fn ticket_is_opened_by_every_process_with_the_secret_until_the_period_after_its_own_ends() {
        let secret = TicketSecret::random(at(100)).unwrap();
        let (one, other) = (Tickets::new(secret.clone()).unwrap(), Tickets::new(secret.clone()).unwrap());
        let ticket = one.encrypt_at(b"session", at(103)).unwrap();
        for period in [103, 104] {
            assert_eq!(other.decrypt_at(&ticket, at(period)).unwrap(), b"session");
        }
        assert_eq!(other.decrypt_at(&ticket, at(105)), None);
        // One whose clock is behind, or that has just started.
        let late = Tickets::new(secret).unwrap();
        assert_eq!(late.decrypt_at(&ticket, at(104)).unwrap(), b"session");
    }

    #[test]
    fn ticket_that_is_damaged_or_of_another_secret_is_not_opened() {
        let tickets = Tickets::new(TicketSecret::random(at(1)).unwrap()).unwrap();
        let ticket = tickets.encrypt_at(b"session", at(1)).unwrap();
        for index in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[index] ^= 1;
            assert_eq!(tickets.decrypt_at(&damaged, at(1)), None);
            assert_eq!(tickets.decrypt_at(&ticket[..index], at(1)), None);
        }
        let other = Tickets::new(TicketSecret::random(at(1)).unwrap()).unwrap();
        assert_eq!(other.decrypt_at(&ticket, at(1)), None);
    }

    #[test]
    fn secret_of_a_later_period_does_not_open_tickets_of_earlier_ones() {
        let secret = TicketSecret::random(at(1)).unwrap();
        let ticket = Tickets::new(secret.clone()).unwrap().encrypt_at(b"session", at(1)).unwrap();
        assert_eq!(Tickets::new(secret.at(2)).unwrap().decrypt_at(&ticket, at(2)), None);
    }
}
