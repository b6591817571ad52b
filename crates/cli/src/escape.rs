//! Text from the network on its way to a screen.

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
}
