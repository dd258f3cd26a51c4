//! Money: integer nano-dollars, so that sums are exact.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;

/// Nano-dollars in one US dollar.
const PER_DOLLAR: i64 = 1_000_000_000;

/// An amount of US dollars in billionths. A price of $1 per million tokens is 1000 of them per token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NanoUsd(pub i64);

/// Why a text is not an amount of money.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: write it like $5.00, with at most nine decimals")]
pub struct MoneyError(String);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, stopping at the largest amount rather than wrapping.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The amount as a decimal string in dollars without a sign, such as `0.0123`; at least two decimals.
    #[must_use]
    pub fn to_decimal(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let all = self.0.unsigned_abs();
        let unit = PER_DOLLAR.unsigned_abs();
        let fraction = format!("{:09}", all % unit);
        let kept = fraction.trim_end_matches('0').len().max(2);
        format!("{sign}{}.{}", all / unit, &fraction[..kept])
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.to_decimal())
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::plus)
    }
}

impl std::str::FromStr for NanoUsd {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let wrong = || MoneyError(text.to_owned());
        let digits = text.trim().trim_start_matches('$');
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let only_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 9 || !only_digits(whole) || !only_digits(fraction) {
            return Err(wrong());
        }
        let dollars: i64 = whole.parse().map_err(|_| wrong())?;
        let rest: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
        let nano = dollars.checked_mul(PER_DOLLAR).and_then(|all| all.checked_add(rest));
        nano.map(Self).ok_or_else(wrong)
    }
}

#[cfg(test)]
#[allow(clippy::expect_used)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_survives_its_own_text() {
        for text in ["0.00", "5.00", "0.000000001", "12.345"] {
            let amount: NanoUsd = text.parse().expect("an amount");
            assert_eq!(amount.to_decimal(), text);
        }
    }

    #[test]
    fn refuses_what_is_not_money() {
        for text in ["", "$", "five", "1.2.3", "-1", "1e3", "0.0000000001"] {
            assert_eq!(text.parse::<NanoUsd>(), Err(MoneyError(text.to_owned())), "{text}");
        }
    }
}
