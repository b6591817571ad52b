//! Text from the network on its way to a screen.

use std::fmt::Write;

/// Escapes what could move the cursor, change colours, or turn the reading direction: control
/// characters, and the invisible marks that reorder text.
pub fn for_screen(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || reorders(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// The same for a line of JSON, whose strings alone can hold such characters, in JSON's notation.
pub fn for_json(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        // All of them lie below U+10000, where JSON needs no surrogates.
        if character.is_control() || reorders(character) {
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Unicode's bidirectional controls, and its line and paragraph separators.
fn reorders(character: char) -> bool {
    matches!(
        character,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_left_alone() {
        assert_eq!(for_screen("\x1b[31mred\x07"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(for_screen("a\r\nb\u{9b}c"), "a\\u{d}\\u{a}b\\u{9b}c");
        assert_eq!(for_screen("evil\u{202e}txt"), "evil\\u{202e}txt");
        assert_eq!(for_screen("Zoë Łukasz 电话"), "Zoë Łukasz 电话");
    }

    #[test]
    fn json_stays_the_same_json() {
        let text = "a\u{9b}b\u{202e}c\u{7f}\x1b\n";
        let line = serde_json::to_string(text).unwrap();
        let escaped = for_json(&line);
        assert_eq!(escaped, r#""a\u009bb\u202ec\u007f\u001b\n""#);
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
