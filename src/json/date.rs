//! Dates as ISO 8601 text.

use crate::json::pieces::ValueRoom;

/// The year that is too long for it.
const YEAR_10000: i64 = 253_402_300_800_000;

/// Whether milliseconds since 1970 are written as text: from 1970 to the year 9999.
#[inline(always)]
pub(super) fn has_text(millis: i64) -> bool {
    (0..YEAR_10000).contains(&millis)
}

/// Puts `{"$date":"2023-11-14T22:13:20.123Z"},` there, without the fraction where that is 0, and tells how
/// much that is.
// Straight to its place: what is written in small pieces takes long to read back as a whole.
#[inline(never)]
pub(super) fn put(room: &mut ValueRoom, millis: i64) -> usize {
    // Small numbers: they are quicker to divide.
    let (days, in_day) = ((millis / 86_400_000) as u32, (millis % 86_400_000) as u32);
    let Day { century, year, month, day } = Day::of(days);
    let (hour, in_hour) = (in_day / 3_600_000, in_day % 3_600_000);
    let (minute, in_minute) = (in_hour / 60_000, in_hour % 60_000);
    let (second, fraction) = (in_minute / 1_000, in_minute % 1_000);
    const TEXT: [u8; 37] = *b"{\"$date\":\"yyyy-mm-ddThh:ii:ss.fffZ\"},";
    if let Some(room) = room.first_chunk_mut() {
        *room = TEXT;
    }
    let mut put = |at: usize, number: u32| [room[at], room[at + 1]] = two_digits(number);
    put(10, century);
    put(12, year);
    put(15, month);
    put(18, day);
    put(21, hour);
    put(24, minute);
    put(27, second);
    if fraction == 0 {
        [room[29], room[30], room[31], room[32]] = *b"Z\"},";
        return 33;
    }
    put(31, fraction % 100);
    room[30] = b'0' + (fraction / 100) as u8;
    TEXT.len()
}

/// Of a number below 100.
#[inline(always)]
fn two_digits(number: u32) -> [u8; 2] {
    /// A power of two of them: a number that is cut to its bits needs no check.
    const TWO_DIGITS: [[u8; 2]; 128] = {
        let mut table = [[b'0'; 2]; 128];
        let mut number = 0;
        while number < 100 {
            table[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
            number += 1;
        }
        table
    };
    TWO_DIGITS[number as usize & 127]
}

struct Day {
    century: u32,
    /// Within the century.
    year: u32,
    month: u32,
    day: u32,
}

impl Day {
    /// Of so many days since 1970-01-01.
    #[inline(always)]
    fn of(days: u32) -> Self {
        // Years that begin in March have their leap day last, so that years in a century and months in a year
        // are straight lines: of quarters of a day, and of fifths.
        const FROM_MARCH_OF_YEAR_0: u32 = 719_468;
        const QUARTERS_OF_CENTURY: u32 = 146_097;
        const QUARTERS_OF_YEAR: u32 = 1_461;
        let quarters = 4 * (days + FROM_MARCH_OF_YEAR_0) + 3;
        let (century, rest) = (quarters / QUARTERS_OF_CENTURY, quarters % QUARTERS_OF_CENTURY);
        let quarters = rest | 3;
        let (year, in_year) = (quarters / QUARTERS_OF_YEAR, quarters % QUARTERS_OF_YEAR / 4);
        let month = (5 * in_year + 2) / 153;
        let day = in_year - (153 * month + 2) / 5 + 1;
        if month < 10 {
            return Self { century, year, month: month + 3, day };
        }
        let (month, year) = (month - 9, year + 1);
        if year < 100 {
            Self { century, year, month, day }
        } else {
            Self { century: century + 1, year: 0, month, day }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_through_leap_years() {
        let mut expected = (1970, 1, 1);
        for day in 0..2_932_897 {
            let Day { century, year, month, day: date } = Day::of(day);
            assert_eq!((100 * century + year, month, date), expected, "day {day}");
            let (year, month, date) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = if date < length {
                (year, month, date + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
    }
}
