//! Pictures that are answered: real PNGs, small, and always the same for the same prompt.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::generated_text;

/// The API documents' sizes, and the pixels of the picture that stands for them: a sixteenth.
const SIZES: [(&str, u32, u32); 4] =
    [("1024x1024", 64, 64), ("1024x1536", 64, 96), ("1536x1024", 96, 64), ("auto", 64, 64)];
/// The API documents' qualities, with the tokens of each size in the order of `SIZES`. Quality and
/// size `auto` cost what the documents' example costs.
const QUALITIES: [(&str, [u64; 4]); 4] = [
    ("low", [272, 408, 400, 272]),
    ("medium", [1056, 1584, 1568, 1056]),
    ("high", [4160, 6240, 6208, 4160]),
    ("auto", [1560, 2340, 2316, 1560]),
];
const COLOURS: usize = 16;

/// What a picture was asked to be; only what the documents list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    pub width: u32,
    pub height: u32,
    /// Completion tokens of one picture.
    pub tokens: u64,
}

impl Canvas {
    /// Looks up `size` and `quality`, which are `auto` where they are not given.
    ///
    /// # Errors
    /// The name of the one that is not in the documents' list.
    pub(super) fn new(size: Option<&str>, quality: Option<&str>) -> Result<Self, &'static str> {
        let (size, quality) = (size.unwrap_or("auto"), quality.unwrap_or("auto"));
        let at = SIZES.iter().position(|row| row.0 == size).ok_or("size is not in the list")?;
        let row = QUALITIES.iter().find(|row| row.0 == quality);
        let (_, tokens) = row.ok_or("quality is not in the list")?;
        let (_, width, height) = SIZES[at];
        Ok(Self { width, height, tokens: tokens[at] })
    }

    /// The picture for `seed` as base64, `scale` times as wide and as high. Scaled ones are not
    /// compressed, so that a large picture is large on the wire too.
    pub(super) fn paint(self, seed: u64, scale: u32) -> String {
        let (width, height) = (self.width * scale, self.height * scale);
        let mut png = Vec::with_capacity(4096);
        let mut encoder = png::Encoder::new(&mut png, width, height);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(palette(seed));
        encoder.set_compression(if scale > 1 {
            png::Compression::NoCompression
        } else {
            png::Compression::Fast
        });
        let written = encoder
            .write_header()
            .and_then(|mut writer| writer.write_image_data(&pixels(seed, width, height)));
        written.expect("the pixels fit the header, and writing to a Vec can't fail");
        STANDARD.encode(&png)
    }
}

fn palette(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut colours = Vec::with_capacity(COLOURS * 3);
    for _ in 0..COLOURS {
        state = generated_text::mix(state);
        colours.extend_from_slice(&state.to_le_bytes()[..3]);
    }
    colours
}

/// Rings around a point that the seed chooses.
fn pixels(seed: u64, width: u32, height: u32) -> Vec<u8> {
    let centre_x = i64::from(seed as u32 % width);
    let centre_y = i64::from((seed >> 32) as u32 % height);
    let ring = 40 + (seed % 60) as i64;
    let mut all = Vec::with_capacity((width * height) as usize);
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let distance = (x - centre_x).pow(2) + (y - centre_y).pow(2);
            all.push((distance / ring) as u8 % COLOURS as u8);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of(base64: &str) -> (u32, u32) {
        let bytes = STANDARD.decode(base64).expect("base64");
        let mut reader =
            png::Decoder::new(std::io::Cursor::new(bytes)).read_info().expect("a PNG header");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a size")];
        reader.next_frame(&mut pixels).expect("whole pixels");
        (reader.info().width, reader.info().height)
    }

    #[test]
    fn sizes_and_qualities_are_those_of_the_documents() {
        for (size, quality, pixels, tokens) in [
            (None, None, (64, 64), 1560),
            (Some("1024x1536"), Some("low"), (64, 96), 408),
            (Some("1536x1024"), Some("high"), (96, 64), 6208),
            (Some("auto"), Some("medium"), (64, 64), 1056),
        ] {
            let canvas = Canvas::new(size, quality).expect("both are in the lists");
            assert_eq!(canvas.tokens, tokens);
            assert_eq!(size_of(&canvas.paint(1, 1)), pixels);
        }
        assert!(Canvas::new(Some("512x512"), None).is_err());
        assert!(Canvas::new(None, Some("best")).is_err());
    }

    #[test]
    fn a_prompt_always_gives_the_same_picture() {
        let canvas = Canvas::new(None, None).expect("the defaults");
        assert_eq!(
            canvas.paint(generated_text::seed("cat"), 1),
            canvas.paint(generated_text::seed("cat"), 1)
        );
        assert_ne!(
            canvas.paint(generated_text::seed("cat"), 1),
            canvas.paint(generated_text::seed("dog"), 1)
        );
        assert!(canvas.paint(1, 1).starts_with("iVBORw0KGgoAAAANSUhEUgAA"), "as printed");
    }

    #[test]
    fn a_picture_can_be_as_large_as_it_was_asked_to_be() {
        let whole = Canvas::new(None, None).expect("the defaults").paint(7, 16);
        assert_eq!(size_of(&whole), (1024, 1024));
        assert!(whole.len() > 1_000_000);
    }
}
