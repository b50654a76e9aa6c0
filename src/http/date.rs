//! Points in time as text. The clock is read elsewhere; here seconds become bytes.

const DAYS: [&[u8; 3]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// The last second of the year 9999: the formats have room for four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// The Date field's format (RFC 9110 §5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`. Times after the year 9999 become its
/// last second.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; 29] {
    let moment = Moment::new(unix_seconds);
    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    text[0..3].copy_from_slice(moment.weekday);
    text[5..7].copy_from_slice(&moment.day);
    text[8..11].copy_from_slice(moment.month);
    text[12..16].copy_from_slice(&moment.year);
    text[17..25].copy_from_slice(&moment.time);
    text
}

/// The Common Log Format's time, always in UTC: `06/Nov/1994:08:49:37 +0000`.
pub fn common_log(unix_seconds: u64) -> [u8; 26] {
    let moment = Moment::new(unix_seconds);
    let mut text = *b"01/Jan/1970:00:00:00 +0000";
    text[0..2].copy_from_slice(&moment.day);
    text[3..6].copy_from_slice(moment.month);
    text[7..11].copy_from_slice(&moment.year);
    text[12..20].copy_from_slice(&moment.time);
    text
}

struct Moment {
    weekday: &'static [u8; 3],
    day: [u8; 2],
    month: &'static [u8; 3],
    year: [u8; 4],
    time: [u8; 8],
}

impl Moment {
    fn new(unix_seconds: u64) -> Self {
        let unix_seconds = unix_seconds.min(LAST_SECOND);
        let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
        let (year, month, day) = civil(days);
        let [h1, h2] = two(second / 3600);
        let [m1, m2] = two(second / 60 % 60);
        let [s1, s2] = two(second % 60);
        let ([y1, y2], [y3, y4]) = (two(year / 100), two(year % 100));
        Self {
            // The first of January 1970 was a Thursday.
            weekday: pick(&DAYS, (days + 4) % 7),
            day: two(day),
            month: pick(&MONTHS, month),
            year: [y1, y2, y3, y4],
            time: [h1, h2, b':', m1, m2, b':', s1, s2],
        }
    }
}

// Year, month counted from 0 and day counted from 1 of a day since 1970, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // A year that begins on the first of March has its leap day at its end, and months whose lengths follow a
    // line: 153 days in five months. 719468 days lie between the first of March of year 0 and 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    // `shifted` counts from March.
    let month = (shifted + 2) % 12;
    (era * 400 + year_of_era + u64::from(month < 2), month, day)
}

fn two(number: u64) -> [u8; 2] {
    let digit = |value: u64| b'0' + (value % 10).to_le_bytes()[0];
    [digit(number / 10), digit(number)]
}

fn pick(names: &[&'static [u8; 3]], index: u64) -> &'static [u8; 3] {
    usize::try_from(index).ok().and_then(|index| names.get(index)).copied().unwrap_or(b"???")
}

#[cfg(test)]
mod tests {
    use super::{DAYS, LAST_SECOND, MONTHS, civil, common_log, imf_fixdate, pick};

    #[test]
    fn known_moments_have_their_text() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            // The example of RFC 9110 §5.6.7.
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds), text.as_bytes(), "{seconds}");
        }
    }

    #[test]
    fn common_log_time_has_its_text() {
        assert_eq!(&common_log(1_795_237_595), b"21/Nov/2026:05:06:35 +0000");
        assert_eq!(&common_log(u64::MAX), b"31/Dec/9999:23:59:59 +0000");
    }

    // Walks the calendar day by day over more than two cycles of 400 years.
    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..300_000 {
            assert_eq!(civil(days), (year, month, day));
            let text = imf_fixdate(days * 86_400);
            assert_eq!(&text[0..3], pick(&DAYS, (days + 4) % 7));
            assert_eq!(&text[8..11], pick(&MONTHS, month));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                1 => 28 + u64::from(leap),
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month == 12 {
                (month, year) = (0, year + 1);
            }
        }
    }
}
