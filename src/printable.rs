//! Characters that do not show, or change how others show: a terminal obeys control characters, and a name
//! with marks of direction or of no width looks like another one (Unicode TR 36, 2.5 and 3.4). No name is made
//! with them; what comes from elsewhere is shown with them written out.

/// The formatting characters (general category Cf of Unicode 17), and the separators of lines and paragraphs.
const FORMATTING: [(char, char); 21] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007f}'),
];

/// Whether a character is one of those, or a control character.
pub(crate) fn is_hidden(char: char) -> bool {
    let is_within = |(first, last): &(char, char)| (*first..=*last).contains(&char);
    char.is_control() || char >= FORMATTING[0].0 && FORMATTING.iter().any(is_within)
}

/// A text with such characters written out, as in `\u{202e}`, but for those that are to stay.
pub(crate) fn written_out(text: &str, stays: impl Fn(char) -> bool) -> String {
    let is_written = |char| is_hidden(char) && !stays(char);
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        match is_written(char) {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_show_is_written_out_and_all_else_stays() {
        for plain in ["", "gpt-5.4", "näher 日本語", "🦀 e\u{301}", "a b"] {
            assert_eq!(written_out(plain, |_| false), plain);
        }
        for (hidden, shown) in [
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            (
                "\u{2028}\u{2029}\u{200b}\u{feff}\u{ad}",
                "\\u{2028}\\u{2029}\\u{200b}\\u{feff}\\u{ad}",
            ),
            ("\u{9b}31m\u{85}\u{7f}", "\\u{9b}31m\\u{85}\\u{7f}"),
            ("\u{1b}[1m\n", "\\u{1b}[1m\\n"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(written_out(hidden, |_| false), shown);
        }
        assert_eq!(written_out("a\n\u{202e}", |char| char == '\n'), "a\n\\u{202e}");
    }
}
