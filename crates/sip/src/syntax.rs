//! The few rules of RFC 3261 section 25.1 that every part of a message shares.

use std::borrow::Cow;

/// Why a value does not match its grammar: what was expected, in a few words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ValueError(pub &'static str);

/// `token` of RFC 3261 section 25.1.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// One `token` or more, nothing else.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// SP or HTAB; line folds have been undone before anything asks.
pub(crate) fn is_lws(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// `bytes` without white space at either end.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_lws(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_lws(*last)
    {
        bytes = rest;
    }
    bytes
}

/// What stands before and after the first `separator`.
pub(crate) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|b| *b == separator)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// Text for people and for comparison; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The pieces of `bytes` between `separator`s that stand neither in a quoted string
/// nor between `<` and `>`, trimmed; an empty piece stays.
pub(crate) fn split_outside(bytes: &[u8], separator: u8) -> Result<Vec<&[u8]>, ValueError> {
    let mut pieces = Vec::new();
    let (mut start, mut quoted, mut escaped, mut bracketed) = (0, false, false, false);
    for (at, byte) in bytes.iter().copied().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracketed => quoted = !quoted,
            b'<' if !quoted => bracketed = true,
            b'>' if !quoted => bracketed = false,
            _ if byte == separator && !quoted && !bracketed => {
                pieces.push(trim(bytes.get(start..at).unwrap_or_default()));
                start = at + 1;
            }
            _ => {}
        }
    }
    if quoted {
        return Err(ValueError("a quoted string has no end"));
    }
    if bracketed {
        return Err(ValueError("`<` has no `>`"));
    }
    pieces.push(trim(bytes.get(start..).unwrap_or_default()));
    Ok(pieces)
}

/// The quoted string that `bytes` begins with, unescaped, and what follows it.
pub(crate) fn quoted_string(bytes: &[u8]) -> Result<(String, &[u8]), ValueError> {
    let Some((b'"', inner)) = bytes.split_first() else {
        return Err(ValueError("a quoted string begins with `\"`"));
    };
    let mut content = Vec::new();
    let mut iter = inner.iter().copied().enumerate();
    while let Some((at, byte)) = iter.next() {
        match byte {
            b'"' => return Ok((text(&content), inner.get(at + 1..).unwrap_or_default())),
            b'\\' => content.extend(iter.next().map(|(_, escaped)| escaped)),
            _ => content.push(byte),
        }
    }
    Err(ValueError("a quoted string has no end"))
}

/// `content` as a quoted string.
pub(crate) fn quote(content: &str) -> String {
    let mut quoted = String::with_capacity(content.len() + 2);
    quoted.push('"');
    for c in content.chars() {
        // RFC 3261 section 25.1: a quoted-pair may hold anything but CR and LF.
        match c {
            '\r' | '\n' => quoted.push(' '),
            '"' | '\\' | '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}' => {
                quoted.push('\\');
                quoted.push(c);
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Whether every `%` begins an escape of two hexadecimal digits.
pub(crate) fn escapes_are_whole(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let after = after.as_bytes();
        after.len() >= 2 && after.iter().take(2).all(u8::is_ascii_hexdigit)
    })
}

/// `text` with `%HH` undone, once (RFC 3986 section 2.4).
pub(crate) fn unescape(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = match (*first, after) {
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                bytes.push(hex(*high) * 16 + hex(*low));
                tail
            }
            _ => {
                bytes.push(*first);
                after
            }
        };
    }
    Cow::Owned(bytes)
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

/// `1*DIGIT`, leading zeros allowed; none when it is not a number or does not fit.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    bytes.iter().try_fold(0u64, |n, digit| {
        n.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_in_quotes_and_brackets_do_not_split() {
        let pieces = split_outside(br#""Bell, \"A" <sip:a,b@c> , sip:d@e"#, b',').unwrap();
        assert_eq!(pieces, [&br#""Bell, \"A" <sip:a,b@c>"#[..], b"sip:d@e"]);
        assert!(split_outside(br#""open"#, b',').is_err());
        assert!(split_outside(b"<sip:a@b", b',').is_err());
    }

    #[test]
    fn quoting_and_unquoting_are_inverse() {
        for original in ["", "a", "a\"b\\c", "\0\u{7}\u{7f}", "лев"] {
            let quoted = quote(original);
            let (read, rest) = quoted_string(quoted.as_bytes()).unwrap();
            assert_eq!((read.as_str(), rest), (original, &b""[..]));
        }
    }

    #[test]
    fn an_escape_is_undone_once() {
        assert_eq!(&*unescape("v%61lue%25%34%31"), b"value%41");
        assert_eq!(&*unescape("%zz%4"), b"%zz%4");
        assert!(
            escapes_are_whole("%00a%fF") && !escapes_are_whole("%0") && !escapes_are_whole("%g0")
        );
    }

    #[test]
    fn a_number_that_does_not_fit_is_none() {
        assert_eq!(number(b"0068"), Some(68));
        assert_eq!(number(b"36893488147419103232"), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b""), None);
    }
}
