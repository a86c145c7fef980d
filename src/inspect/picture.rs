//! What a picture costs that a request asks for, by its `size` and `quality`.

/// Tokens of a picture of 1024x1024, 1024x1536 and 1536x1024, by quality: those of OpenAI's image models,
/// <https://platform.openai.com/docs/guides/image-generation#cost-and-latency>.
const QUALITIES: [(&str, [u64; 3]); 3] =
    [("low", [272, 408, 400]), ("medium", [1_056, 1_584, 1_568]), ("high", [4_160, 6_240, 6_208])];
/// Where the upstream chooses the quality: what the API document shows for one picture. It shows 1,800 as
/// well, so that 15 are reserved for 13.
const AUTO: [u64; 3] = [1_560, 2_340, 2_316];
const AUTO_MOST: (u64, u64) = (15, 13);
/// Pixels of the first of the three.
const SQUARE: u64 = 1_024 * 1_024;

/// A picture as it is asked for. Said twice, the dearer counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// `None`: it says nothing, or `auto`.
    size: Option<Size>,
    quality: Option<Quality>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// Of the table, by its column.
    Known(usize),
    /// So many pixels.
    Other(u64),
}

/// A row of the table.
type Quality = usize;

impl Picture {
    /// The request says `size`.
    pub(super) fn set_size(&mut self, text: &[u8]) {
        let size = match text {
            b"auto" => return,
            b"1024x1024" => Size::Known(0),
            b"1024x1536" => Size::Known(1),
            b"1536x1024" => Size::Known(2),
            // What is no size is taken for a large one; and who knows whether there are small ones.
            _ => Size::Other(pixels(text).unwrap_or(4 * SQUARE).max(SQUARE)),
        };
        let said = [self.size, Some(size)].into_iter().flatten();
        self.size = said.max_by_key(|size| size.tokens(AUTO));
    }

    /// The request says `quality`.
    pub(super) fn set_quality(&mut self, text: &[u8]) {
        let quality = match text {
            b"auto" => return,
            b"low" => 0,
            // Names of older models.
            b"medium" | b"standard" => 1,
            _ => 2,
        };
        self.quality = self.quality.max(Some(quality));
    }

    /// What one costs where the upstream says nothing of it.
    pub(crate) fn tokens(self) -> u64 {
        let row = self.quality.map_or(AUTO, |quality| QUALITIES[quality].1);
        self.size.map_or(row[0], |size| size.tokens(row))
    }

    /// What one may cost.
    pub(crate) fn most_tokens(self) -> u64 {
        let (of, to) = AUTO_MOST;
        match self.quality {
            None => self.tokens().saturating_mul(of).div_ceil(to),
            Some(_) => self.tokens(),
        }
    }
}

impl Size {
    fn tokens(self, row: [u64; 3]) -> u64 {
        match self {
            Self::Known(column) => row[column],
            Self::Other(pixels) => row[0].saturating_mul(pixels).div_ceil(SQUARE),
        }
    }
}

/// Of a size such as `1792x1024`, or `4K`, for 4,096 a side (Gemini, Seedream).
fn pixels(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let number = |text: &str| text.parse::<u64>().ok();
    if let Some(thousands) = text.strip_suffix(['K', 'k']) {
        let side = number(thousands)?.saturating_mul(1_024);
        return Some(side.saturating_mul(side));
    }
    let (width, height) = text.split_once(['x', 'X', '*'])?;
    Some(number(width)?.saturating_mul(number(height)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_costs_what_its_size_and_quality_cost() {
        // What is asked for, what it costs, what it may cost.
        for (size, quality, tokens, most) in [
            (None, None, 1_560, 1_800),
            (Some("auto"), Some("auto"), 1_560, 1_800),
            (Some("1024x1536"), None, 2_340, 2_700),
            (Some("1024x1024"), Some("low"), 272, 272),
            (Some("1024x1536"), Some("medium"), 1_584, 1_584),
            (Some("1536x1024"), Some("high"), 6_208, 6_208),
            (None, Some("high"), 4_160, 4_160),
            (Some("2048x2048"), Some("standard"), 4 * 1_056, 4 * 1_056),
            (Some("512x512"), Some("low"), 272, 272),
            (Some("1792x1024"), Some("low"), 476, 476),
            (Some("1K"), None, 1_560, 1_800),
            (Some("4k"), Some("low"), 16 * 272, 16 * 272),
            (Some("4096*4096"), Some("low"), 16 * 272, 16 * 272),
            (Some("huge"), Some("best"), 4 * 4_160, 4 * 4_160),
            (Some("99999999999x99999999999"), None, 1 << 44, (15_u64 << 44).div_ceil(13)),
        ] {
            let mut picture = Picture::default();
            size.into_iter().for_each(|size| picture.set_size(size.as_bytes()));
            quality.into_iter().for_each(|quality| picture.set_quality(quality.as_bytes()));
            assert_eq!(picture.tokens(), tokens, "{size:?} {quality:?}");
            assert_eq!(picture.most_tokens(), most, "{size:?} {quality:?}");
        }
    }

    #[test]
    fn what_is_said_twice_counts_as_the_dearer() {
        for order in [["low", "high"], ["high", "low"]] {
            let mut picture = Picture::default();
            order.iter().for_each(|quality| picture.set_quality(quality.as_bytes()));
            for size in ["1024x1024", "1024x1536", "auto", "1024x1024"] {
                picture.set_size(size.as_bytes());
            }
            assert_eq!(picture.tokens(), 6_240, "{order:?}");
            // One that is not in the table, and no dearer.
            picture.set_size(b"512x512");
            assert_eq!(picture.tokens(), 6_240, "{order:?}");
        }
    }
}
