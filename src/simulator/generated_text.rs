//! The text generator: what the simulator says is a function of the question, token by token, and
//! is made while it is sent, so that a long answer takes no more memory than a short one.

/// What English answers are made of; each sentence begins with the space before it.
const ENGLISH: [&str; 14] = [
    " The short answer is that it depends on what you want to measure.",
    " Start with the smallest example that shows the behaviour, then change one thing at a time.",
    " Most of the time is spent waiting, so look at the queue first.",
    " A stream should be passed on as it arrives, never held back.",
    "\n\n- Write down what you expect before you run it.",
    "\n- Compare the numbers with those of last week.",
    " Counting once is easy; counting exactly once needs a journal.",
    " If two parts have to agree, let one of them decide.",
    " That is why a limit needs a name, a unit and a stated default.",
    " In practice, a few hundred lines of plain code are enough.",
    " Water finds its way, and so do requests.",
    " Keep the old version until the new one has proved itself.",
    " You can check this with `curl -N` and a stopwatch.",
    " In other words: \"measure first\", then decide.",
];

/// What Chinese answers are made of.
const CHINESE: [&str; 14] = [
    "简单来说,这取决于您想要衡量什么。",
    "建议从最小的例子开始,每次只改变一个条件。",
    "大部分时间都花在等待上,所以请先检查队列。",
    "数据流应当随到随发,而不是攒在一起。",
    "\n\n- 运行之前,先写下您的预期。",
    "\n- 把结果和上周的数据作对比。",
    "计数一次很容易,恰好计数一次则需要日志。",
    "如果两个部分必须一致,就让其中一个来决定。",
    "因此,每个限制都要有名称、单位和默认值。",
    "在实践中,几百行简洁的代码就足够了。",
    "水总会找到出路,请求也是如此。",
    "在新版本得到验证之前,请保留旧版本。",
    "您可以用 `curl -N` 来验证这一点。",
    "换句话说:“先测量”,再决定。",
];

/// A text that is said token by token.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// Tokens that are given as they are; if there are any, there is nothing else.
    pieces: &'static [&'static str],
    lead: String,
    lead_at: usize,
    /// Where the sentences after the lead come from, if there are any.
    more: Option<Sentences>,
    current: &'static str,
    said: u64,
    tokens: u64,
    cut: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sentences {
    table: &'static [&'static str],
    state: u64,
}

impl Text {
    /// Exactly `text`, or its first `most` tokens.
    pub(super) fn exact(text: String, most: Option<u64>) -> Self {
        let natural = count(&text);
        Self::new(text, None, natural, most)
    }

    /// `lead` and then sentences that `seed` decides: as many tokens as `length` says, else three to
    /// six sentences; in any case at most `most` tokens.
    pub(super) fn spoken(
        lead: String,
        chinese: bool,
        seed: u64,
        length: Option<u64>,
        most: Option<u64>,
    ) -> Self {
        let table: &'static [&'static str] = if chinese { &CHINESE } else { &ENGLISH };
        let sentences = Sentences { table, state: seed };
        let natural = length.unwrap_or_else(|| {
            let mut ahead = sentences;
            let more = 3 + seed % 4;
            count(&lead) + (0..more).map(|_| count(ahead.next())).sum::<u64>()
        });
        Self::new(lead, Some(sentences), natural, most)
    }

    /// The pieces as they are cut, each a token.
    pub(super) fn pieces(pieces: &'static [&'static str]) -> Self {
        Self { pieces, ..Self::new(String::new(), None, pieces.len() as u64, None) }
    }

    fn new(lead: String, more: Option<Sentences>, natural: u64, most: Option<u64>) -> Self {
        let tokens = most.map_or(natural, |most| most.min(natural));
        let cut = tokens < natural;
        Self { pieces: &[], lead, lead_at: 0, more, current: "", said: 0, tokens, cut }
    }

    /// How many tokens this text has in all.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// It was to be longer than it may be.
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    /// The next token.
    pub(super) fn next(&mut self) -> Option<&str> {
        if self.said == self.tokens {
            return None;
        }
        self.said += 1;
        if let Some(piece) = self.pieces.get(self.said as usize - 1) {
            return Some(piece);
        }
        if self.lead_at < self.lead.len() {
            let rest = &self.lead[self.lead_at..];
            let token = &rest[..token_len(rest)];
            self.lead_at += token.len();
            return Some(token);
        }
        if self.current.is_empty() {
            self.current = self.more.as_mut()?.next();
        }
        let (token, rest) = self.current.split_at(token_len(self.current));
        self.current = rest;
        Some(token)
    }

    /// The whole text at once, with `pad` after every token.
    pub(super) fn whole(mut self, pad: &str) -> String {
        let mut all = String::with_capacity(self.lead.len() + 6 * self.tokens as usize);
        while let Some(token) = self.next() {
            all.push_str(token);
            all.push_str(pad);
        }
        all
    }
}

impl Sentences {
    fn next(&mut self) -> &'static str {
        self.state = mix(self.state);
        self.table[(self.state % self.table.len() as u64) as usize]
    }
}

/// How many tokens `text` has.
pub(super) fn count(mut text: &str) -> u64 {
    let mut tokens = 0;
    while !text.is_empty() {
        text = &text[token_len(text)..];
        tokens += 1;
    }
    tokens
}

/// The bytes of the first token of a text that is not empty: an ASCII word or number with the space
/// before it, up to two letters of another script, or one other character.
fn token_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let from = usize::from(bytes[0] == b' ');
    let word = bytes[from..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    if word > 0 {
        return from + word;
    }
    let mut chars = text.chars();
    let first = chars.next().map_or(1, char::len_utf8);
    let pair = bytes[0] >= 0x80 && text.chars().take(2).all(is_letter);
    match chars.next() {
        Some(second) if pair => first + second.len_utf8(),
        _ => first,
    }
}

fn is_letter(one: char) -> bool {
    !one.is_ascii() && one.is_alphabetic()
}

/// Whether a text is to be answered in Chinese.
pub(super) fn is_chinese(text: &str) -> bool {
    text.chars().any(|one| ('\u{4e00}'..='\u{9fff}').contains(&one))
}

/// A number that the same text always gives (FNV-1a, then mixed).
pub(super) fn seed(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(hash)
}

/// The next number of a sequence that looks random (SplitMix64).
pub(super) fn mix(state: u64) -> u64 {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(mut text: Text) -> Vec<String> {
        std::iter::from_fn(|| text.next().map(str::to_owned)).collect()
    }

    #[test]
    fn texts_are_cut_into_words() {
        for (text, expected) in [
            ("Hello, world!", vec!["Hello", ",", " world", "!"]),
            ("你好!有什么", vec!["你好", "!", "有什", "么"]),
            ("a  b\n c", vec!["a", " ", " b", "\n", " c"]),
            ("é", vec!["é"]),
            ("ok 上海 🙂", vec!["ok", " ", "上海", " ", "🙂"]),
        ] {
            assert_eq!(tokens(Text::exact(text.to_owned(), None)), expected);
            assert_eq!(count(text), expected.len() as u64);
        }
    }

    #[test]
    fn the_same_question_gets_the_same_answer_and_another_one_another() {
        let say = |question: &str| {
            Text::spoken(question.to_owned(), false, seed(question), None, None).whole("")
        };
        assert_eq!(say("What is a weir?"), say("What is a weir?"));
        assert_ne!(say("?"), say("??"));
        assert!(say("x").ends_with(['.', '?', ';']));
    }

    #[test]
    fn the_length_is_what_was_promised_and_what_is_allowed() {
        for (length, most, expected, cut) in [
            (Some(500), None, 500, false),
            (Some(500), Some(20), 20, true),
            (Some(3), Some(20), 3, false),
            (Some(0), None, 0, false),
        ] {
            let text = Text::spoken("Well.".to_owned(), true, 9, length, most);
            assert_eq!((text.tokens(), text.is_cut()), (expected, cut));
            assert_eq!(tokens(text).len() as u64, expected);
        }
        let natural = Text::spoken("Well.".to_owned(), true, 9, None, None);
        assert_eq!(tokens(natural.clone()).len() as u64, natural.tokens());
        assert!(!natural.is_cut());
    }

    #[test]
    fn padding_comes_after_every_token() {
        assert_eq!(Text::exact("a b".to_owned(), None).whole("__"), "a__ b__");
    }

    #[test]
    fn chinese_is_told_by_its_letters() {
        assert!(is_chinese("介绍一下Linux"));
        assert!(!is_chinese("Émile, 42!"));
    }
}
