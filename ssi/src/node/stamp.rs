//! Date and time as CP shows them, in UTC.

use std::fmt;
use std::time::SystemTime;

use time::OffsetDateTime;

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(OffsetDateTime);

impl Stamp {
    /// Now.
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// `hh:mm:ss`.
    pub fn time(self) -> String {
        format!("{:02}:{:02}:{:02}", self.0.hour(), self.0.minute(), self.0.second())
    }

    /// `mm/dd/yy hh:mm:ss`, CP's short date form.
    pub fn short(self) -> String {
        let (month, day, year) = (u8::from(self.0.month()), self.0.day(), self.0.year().rem_euclid(100));
        format!("{month:02}/{day:02}/{year:02} {}", self.time())
    }
}

impl From<SystemTime> for Stamp {
    fn from(time: SystemTime) -> Self {
        Self(time.into())
    }
}

impl fmt::Display for Stamp {
    /// `yyyy-mm-dd hh:mm:ss`, CP's ISO date form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (month, day) = (u8::from(self.0.month()), self.0.day());
        write!(f, "{:04}-{month:02}-{day:02} {}", self.0.year(), self.time())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_in_cps_date_forms() {
        let stamp = Stamp::from(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_336_486_406));
        assert_eq!(stamp.short(), "05/08/12 14:13:26");
        assert_eq!(stamp.to_string(), "2012-05-08 14:13:26");
    }
}
