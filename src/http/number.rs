//! Numbers as text, without the formatting machinery: these lines are written once or more for each response.

use std::net::IpAddr;

/// A number in decimal.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// Formats a number; `u64::MAX` has twenty digits.
    pub fn new(number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let start = fill::<10>(&mut digits, number);
        Self { digits, start }
    }

    /// The digits, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

/// A number in lower-case hexadecimal.
#[derive(Clone, Copy, Debug)]
pub struct Hexadecimal {
    digits: [u8; 16],
    start: usize,
}

impl Hexadecimal {
    /// Formats a number; `u64::MAX` has sixteen digits.
    pub fn new(number: u64) -> Self {
        let mut digits = [b'0'; 16];
        let start = fill::<16>(&mut digits, number);
        Self { digits, start }
    }

    /// The digits, without leading zeros.
    pub fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }
}

// Writes from the right and returns where the first digit stands. The base is a constant for the compiler: a division by a
// variable takes some twenty times as long.
fn fill<const BASE: u64>(digits: &mut [u8], mut number: u64) -> usize {
    let mut start = digits.len();
    for (index, digit) in digits.iter_mut().enumerate().rev() {
        let value = (number % BASE).to_le_bytes()[0];
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
        start = index;
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    start
}

/// Appends an address in its usual notation (RFC 5952 for IPv6).
pub fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            let [first, rest @ ..] = ip.octets();
            out.extend_from_slice(Decimal::new(first.into()).as_bytes());
            for octet in rest {
                out.push(b'.');
                out.extend_from_slice(Decimal::new(octet.into()).as_bytes());
            }
        }
        IpAddr::V6(ip) => out.extend_from_slice(ip.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Decimal, Hexadecimal, push_ip};

    #[test]
    fn numbers_equal_the_standard_formatting() {
        let edges = (0..64).flat_map(|shift| [(1_u64 << shift) - 1, 1 << shift, (1 << shift) + 1]);
        let tens = (0..20).flat_map(|power| [10_u64.pow(power) - 1, 10_u64.pow(power)]);
        for number in edges.chain(tens).chain([u64::MAX]) {
            assert_eq!(Decimal::new(number).as_bytes(), number.to_string().as_bytes());
            assert_eq!(Hexadecimal::new(number).as_bytes(), format!("{number:x}").as_bytes());
        }
    }

    #[test]
    fn addresses_equal_the_standard_formatting() {
        let octets = [0_u8, 1, 9, 10, 99, 100, 199, 255];
        let fours = octets.into_iter().flat_map(|first| octets.map(|last| [first, 0, 255, last].into()));
        let sixes = ["::", "::1", "2001:db8::1:0:0:1", "::ffff:192.0.2.1", "fe80::1"].map(|text| text.parse().unwrap());
        for ip in fours.chain(sixes) {
            let mut out = b"-".to_vec();
            push_ip(&mut out, ip);
            assert_eq!(String::from_utf8(out).unwrap(), format!("-{ip}"));
        }
    }
}
