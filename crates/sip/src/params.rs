//! Parameters: `;name=value` after a URI or a header field's value.

use std::fmt;

use crate::syntax::{ValueError, is_token, quoted_string, split_once, split_outside, text, trim};

/// Parameters in the order in which they were written. Names compare without regard to case.
///
/// A value is kept as it was written, so a quoted string has its quotes here;
/// [`Params::text`] takes them off.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Params(pub(crate) Vec<(String, Option<String>)>);

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Names and values as written, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_deref()))
    }

    /// Whether a parameter of that name is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// The value of the first parameter of that name, as written.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .and_then(|(_, v)| v.as_deref())
    }

    /// The value of the first parameter of that name, quotes and escapes of a quoted string undone.
    pub fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name)?;
        match quoted_string(value.as_bytes()) {
            Ok((content, _)) => Some(content),
            Err(_) => Some(value.to_owned()),
        }
    }

    /// Gives the first parameter of that name this value, or appends it.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        match self
            .0
            .iter_mut()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
        {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Takes out every parameter of that name.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// Reads `;a=b;c`: nothing, or pieces that each begin with a semicolon
    /// (RFC 3261 section 25.1, `generic-param`, with white space around `;` and `=`).
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ValueError> {
        let bytes = trim(bytes);
        let Some((first, rest)) = bytes.split_first() else {
            return Ok(Self::default());
        };
        if *first != b';' {
            return Err(ValueError("parameters begin with `;`"));
        }
        split_outside(rest, b';')?
            .into_iter()
            .map(generic_param)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

fn generic_param(piece: &[u8]) -> Result<(String, Option<String>), ValueError> {
    let (name, value) = match split_once(piece, b'=') {
        Some((name, value)) => (trim(name), Some(trim(value))),
        None => (piece, None),
    };
    if !is_token(name) {
        return Err(ValueError("a parameter's name is a token"));
    }
    if let Some(value) = value {
        let is_quoted = value.starts_with(b"\"");
        if is_quoted && !quoted_string(value)?.1.is_empty() {
            return Err(ValueError("something follows a parameter's quoted string"));
        }
        // Wider than token and host: many phones put `=`, `/` or `@` here, and nothing is ambiguous.
        let is_plain = |b: &u8| *b > b' ' && !b"\",;<>\x7f".contains(b);
        if !is_quoted && !value.iter().all(is_plain) {
            return Err(ValueError(
                "a parameter's value is a token, a host or quoted",
            ));
        }
    }
    Ok((text(name), value.map(text)))
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            write!(f, ";{name}")?;
            if let Some(value) = value {
                write!(f, "={value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints() {
        let params = Params::parse(b" ; a = 1 ;b; C=\"x;\\\"y\"").unwrap();
        assert_eq!(params.to_string(), ";a=1;b;C=\"x;\\\"y\"");
        assert_eq!(params.value("A"), Some("1"));
        assert!(params.has("b") && params.value("b").is_none());
        assert_eq!(params.text("c").as_deref(), Some("x;\"y"));
    }

    #[test]
    fn refuses_empty_pieces_and_loose_ends() {
        for bad in [
            &b";;"[..],
            b"a",
            b";a=\"b",
            b";a=\"b\"c",
            b";=b",
            b";a b",
            b";a=b c",
        ] {
            assert!(Params::parse(bad).is_err(), "{:?}", text(bad));
        }
    }
}
