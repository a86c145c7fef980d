//! S24 to S42: the document of the image model, and what neither document says.

use serde_json::json;

use super::{
    BAD_IMAGE, CHAT, CHAT_PATH, EDIT, EDIT_SEVERAL, PICTURE, PICTURE_STREAM, STREAM, Site,
    UNDERSTAND, VISION, assert_counts, refusal, row_of_usage,
};
use crate::harness::request;

#[tokio::test]
async fn s24_pictures_come_from_the_chat_endpoint() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE).await;
    assert_eq!((&*told.row.model, &*told.row.endpoint), ("gpt-5.4-image-2", CHAT_PATH));
    site.finish().await;
}

/// Asks for a picture with one more field, for each of these values of it.
async fn pictures_with(field: &str, values: &[&str]) {
    let site = Site::start().await;
    for value in values {
        let body = PICTURE.replacen('{', &format!("{{\"{field}\":\"{value}\","), 1);
        assert_eq!(site.ask("", &body).await.answer.status, 200, "{value}");
    }
    site.finish().await;
}

#[tokio::test]
async fn s25_sizes_pass() {
    pictures_with("size", &["1024x1024", "1024x1536", "1536x1024", "auto"]).await;
}

#[tokio::test]
async fn s26_qualities_pass() {
    pictures_with("quality", &["low", "medium", "high", "auto"]).await;
}

#[tokio::test]
async fn s27_n_pictures_are_reserved_for_n_times() {
    let site = Site::start().await;
    let one = site.ask("", PICTURE).await;
    let three = site.ask("", &PICTURE.replacen('{', "{\"n\":3,", 1)).await;
    assert_eq!(three.json()["choices"].as_array().map(Vec::len), Some(3));
    assert_eq!(three.row.reserved_tokens - one.row.reserved_tokens, 2 * 1800);
    let (prompt, completion) = (three.served.prompt_tokens, three.served.completion_tokens);
    three.assert_reported(prompt, completion, prompt + completion);
    site.finish().await;
}

#[tokio::test]
async fn s28_a_picture_out_of_words() {
    let site = Site::start().await;
    assert!(PICTURE.contains(r#""content":"生成一只坐在月球上的橘猫,超写实风格""#));
    assert_eq!(site.ask("", PICTURE).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s29_a_picture_is_an_array_of_content() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE).await;
    assert_eq!(told.json()["id"], "chatcmpl_img_A1B2C3");
    let content = &told.json()["choices"][0]["message"]["content"];
    assert_eq!(content[0]["type"], "image_base64");
    assert!(content[0]["image_base64"].as_str().is_some_and(|it| it.starts_with("iVBORw0KGgo")));
    site.finish().await;
}

#[tokio::test]
async fn s30_a_pictures_usage_is_recorded() {
    let site = Site::start().await;
    site.ask("", PICTURE).await.assert_reported(42, 1560, 1602);
    site.finish().await;
}

#[tokio::test]
async fn s31_an_edit_is_text_and_a_picture() {
    let site = Site::start().await;
    assert_eq!(site.ask("", EDIT).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s32_an_edit_without_usage_is_estimated_dear() {
    let site = Site::start().await;
    let told = site.ask("", EDIT).await;
    told.assert_estimated();
    assert_eq!(told.json()["choices"][0]["index"], 0);
    assert!(told.row.output_tokens >= 1000, "a picture is not free: {:?}", told.row);
    site.finish().await;
}

#[tokio::test]
async fn s33_several_pictures_in_one_edit() {
    let site = Site::start().await;
    assert!(EDIT_SEVERAL.contains("base64,IMAGE_BASE64_2\""));
    let told = site.ask("", EDIT_SEVERAL).await;
    told.assert_estimated();
    let one = site.ask("", EDIT).await;
    assert!(told.row.input_tokens > one.row.input_tokens, "each picture counts");
    site.finish().await;
}

#[tokio::test]
async fn s34_slashes_of_base64_are_not_escaped() {
    let site = Site::start().await;
    assert!(UNDERSTAND.contains("data:image/jpeg;base64,/9j/4AAQSk..."));
    assert_eq!(site.ask("", UNDERSTAND).await.answer.status, 200);
    site.finish().await;
}

#[tokio::test]
async fn s35_understanding_a_picture_answers_in_words() {
    let site = Site::start().await;
    let told = site.ask("", UNDERSTAND).await;
    told.assert_estimated();
    let choice = &told.json()["choices"][0];
    assert!(choice.get("index").is_none());
    assert_eq!(choice["message"]["content"], "图片中是一只橘猫坐在窗台上,阳光从左侧照射进来。");
    site.finish().await;
}

#[tokio::test]
async fn s36_a_picture_can_be_streamed() {
    let site = Site::start().await;
    let told = site.ask("", PICTURE_STREAM).await;
    assert_eq!(told.answer.header("content-type"), Some("text/event-stream"));
    assert!(told.row.streamed);
    site.finish().await;
}

#[tokio::test]
async fn s37_a_streamed_picture_is_words_then_one_long_line() {
    let site = Site::start().await;
    // At full size the line is longer than anything that is held.
    for scale in ["", "x-sim-picture-scale: 16\r\n"] {
        let told = site.ask(scale, PICTURE_STREAM).await;
        let text = told.answer.text();
        let words = "data: {\"choices\":[{\"delta\":{\"content\":\"正在生成图片...\"}}]}\n\n";
        let rest = text.strip_prefix(words).expect("words first");
        let rest = rest.strip_prefix("data: {\"choices\":[{\"delta\":{\"image_base64\":\"iVBOR");
        assert!(rest.expect("a picture").ends_with("\"}}]}\n\ndata: [DONE]\n\n"));
        assert!(scale.is_empty() || text.len() > 16 * 1024, "{}", text.len());
        told.assert_estimated();
        assert!(told.row.output_tokens >= 1000, "{:?}", told.row);
    }
    site.finish().await;
}

#[tokio::test]
async fn s38_standard_usage_of_pictures() {
    let usage = json!({"prompt_tokens": 135, "completion_tokens": 1800, "total_tokens": 1935});
    assert_counts(&row_of_usage(&usage).await, 135, 1800, 1935);
}

#[tokio::test]
async fn s39_extended_usage_means_the_same() {
    let usage = json!({
        "prompt_tokens": 135,
        "completion_tokens": 1800,
        "total_tokens": 1935,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    });
    assert_counts(&row_of_usage(&usage).await, 135, 1800, 1935);
    let site = Site::start().await;
    site.ask("x-sim-usage: extended\r\n", CHAT).await.assert_reported(8, 12, 20);
    site.finish().await;
}

#[tokio::test]
async fn s40_a_bad_image_gets_the_printed_error() {
    let site = Site::start().await;
    let told = site.ask("", &EDIT.replace("iVBORw0KGgoAAAANSUhEUgAA...", "bm8gaW1hZ2U=")).await;
    assert_eq!((told.answer.status, told.answer.text()), (400, BAD_IMAGE));
    assert_eq!((&*told.row.end, told.row.total_tokens), ("upstream_rejected", 0));
    site.finish().await;
}

#[tokio::test]
async fn s41_image_formats_are_not_policed() {
    let site = Site::start().await;
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA...";
    for other in [
        "data:image/gif;base64,R0lGODlhQAHwAAAAAA==",
        "data:image/webp;base64,UklGRiQAAABXRUJQVlA4WAoAAAAAAAAAfwIA3wEA",
        "data:image/jpeg;base64,/9j/4AAQSk...",
        "https://example.com/cat.png",
    ] {
        assert_eq!(site.ask("", &VISION.replace(png, other)).await.answer.status, 200, "{other}");
    }
    // Not even what no image is: that is for the upstream to say.
    let odd = VISION.replace(png, "data:text/plain,x");
    assert_eq!(site.ask("", &odd).await.answer.text(), BAD_IMAGE);
    site.finish().await;
}

#[tokio::test]
async fn s42_where_the_documents_are_silent_it_is_as_at_openai() {
    let site = Site::start().await;
    // Usage in a stream for who asks, none for who does not; errors in a stream as they come.
    let full = "x-sim-mode: full\r\n";
    let asking = STREAM.replace("true,", "true,\"stream_options\":{\"include_usage\":true},");
    let told = site.ask_fully(full, &asking).await;
    assert!(told.contains(r#""choices":[],"usage":{"#) && told.contains(r#""usage":null"#));
    let told = site.ask_fully(full, STREAM).await;
    assert!(!told.contains("usage"), "{told}");
    let broken = format!("{full}x-sim-fault: error:2\r\n");
    let told = site.ask_fully(&broken, STREAM).await;
    assert!(told.contains("data: {\"error\":{") && told.ends_with("data: [DONE]\n\n"), "{told}");
    // Request ids, and limits on every answer.
    let key = site.world.new_key(&["--rpm", "60", "--tpm", "100000"]).await;
    let answer = refusal(&site.world, &request("POST", CHAT_PATH, &key, "", CHAT)).await;
    for name in ["x-request-id", "x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens"] {
        assert!(answer.header(name).is_some(), "{name}: {:?}", answer.head.headers);
    }
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), Some("100000"));
    site.finish().await;
}
