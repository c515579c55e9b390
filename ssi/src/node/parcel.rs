//! Messages longer than an endpoint takes travel as several.
//!
//! Each begins with a byte: 0, more follows; 1, this is the last.

use isfc::socket::BODY_LEN_BYTES_MAX;

use crate::member::LEN_BYTES_MAX as MESSAGE_LEN_BYTES_MAX;

const MORE: u8 = 0;
const LAST: u8 = 1;

/// A message in parcels, at least one.
pub(super) fn wrap(message: &[u8]) -> Vec<Vec<u8>> {
    let mut parcels: Vec<Vec<u8>> =
        message.chunks(BODY_LEN_BYTES_MAX - 1).map(|part| [&[MORE], part].concat()).collect();
    match parcels.last_mut() {
        Some(last) => last[0] = LAST,
        None => parcels.push(vec![LAST]),
    }
    parcels
}

/// Puts messages together.
#[derive(Debug, Default)]
pub(super) struct Parcels(Vec<u8>);

impl Parcels {
    /// Takes the next parcel; a message if it was its last.
    pub(super) fn take(&mut self, parcel: Vec<u8>) -> Result<Option<Vec<u8>>, String> {
        let Some((kind, part)) = parcel.split_first() else { return Err("an empty parcel".to_owned()) };
        if self.0.len() + part.len() > MESSAGE_LEN_BYTES_MAX {
            return Err(format!("a message longer than {MESSAGE_LEN_BYTES_MAX} bytes"));
        }
        self.0.extend_from_slice(part);
        match *kind {
            MORE => Ok(None),
            LAST => Ok(Some(std::mem::take(&mut self.0))),
            other => Err(format!("a parcel of kind {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_any_length_arrive_whole() {
        for len in [0, 1, BODY_LEN_BYTES_MAX - 1, BODY_LEN_BYTES_MAX, 3 * BODY_LEN_BYTES_MAX] {
            let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut parcels = Parcels::default();
            let mut whole: Vec<_> =
                wrap(&message).into_iter().filter_map(|parcel| parcels.take(parcel).unwrap()).collect();
            assert_eq!((whole.len(), whole.pop()), (1, Some(message)));
        }
    }

    #[test]
    fn what_is_no_parcel_is_refused() {
        assert!(Parcels::default().take(vec![]).is_err());
        assert!(Parcels::default().take(vec![2, 0]).is_err());
        let mut endless = Parcels::default();
        let refused = (0..=MESSAGE_LEN_BYTES_MAX / BODY_LEN_BYTES_MAX + 1)
            .map(|_| endless.take(vec![MORE; BODY_LEN_BYTES_MAX]))
            .find(Result::is_err);
        assert!(refused.is_some());
    }
}
