//! Quantities in messages: a number with its noun.

/// Returns `n` with the noun that fits, and with separators between thousands: `1 file`, `2,000 files`.
pub fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(n), if n == 1 { one } else { many })
}

/// Writes a count with separators between thousands.
pub fn thousands(number: u64) -> String {
    grouped(number, ',')
}

/// Writes a count with `separator` between thousands.
pub fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
        }
        text.push(digit);
    }
    text
}

/// Writes which share of `whole` a part is: `99.8 %`. What is not all is never shown as all, and what is something never as nothing.
pub fn percent(part: u64, whole: u64) -> String {
    let thousandths = (u128::from(part) * 1_000).checked_div(whole.into()).unwrap_or(0);
    let thousandths = if part > 0 { thousandths.max(1) } else { thousandths };
    match thousandths % 10 {
        0 => format!("{} %", thousandths / 10),
        tenth => format!("{}.{tenth} %", thousandths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_all_or_nothing_only_if_it_is() {
        let shares = [(0, 5), (1, 1_000_000), (1, 8), (1, 2), (999_999, 1_000_000), (7, 7), (0, 0)];
        assert_eq!(shares.map(|(part, whole)| percent(part, whole)), ["0 %", "0.1 %", "12.5 %", "50 %", "99.9 %", "100 %", "0 %"]);
    }

    #[test]
    fn only_one_is_singular() {
        assert_eq!([0, 1, 2_000].map(|n| counted(n, "file", "files")), ["0 files", "1 file", "2,000 files"]);
    }
}
