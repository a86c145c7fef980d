//! The examples of the two API documents, with the answers, ids and numbers that are printed there.

use super::chat_request::{Kind, Question};
use super::options::{IMAGE_MODEL, TEXT_MODEL};

/// `created` of every printed answer.
pub(super) const CREATED: i64 = 1_780_470_861;
/// `created` of the printed model list.
pub(super) const MODEL_CREATED: i64 = 1_780_000_000;
/// The model list's `owned_by`.
pub(super) const OWNED_BY: &str = "system";

/// A question of the documents and what is printed as its answer.
#[derive(Debug)]
pub(super) struct Example {
    model: &'static str,
    kind: Kind,
    question: &'static str,
    /// The text as the printed stream cuts it; empty where the answer is a picture or a call.
    pub pieces: &'static [&'static str],
    pub id: &'static str,
    /// Prompt and completion tokens, where they are printed.
    pub usage: Option<(u64, u64)>,
}

static EXAMPLES: [Example; 7] = [
    Example {
        model: TEXT_MODEL,
        kind: Kind::Chat,
        question: "你好",
        pieces: &["你好!有什么可以帮助你的吗?"],
        id: "chatcmpl_abc123",
        usage: Some((8, 12)),
    },
    Example {
        model: TEXT_MODEL,
        kind: Kind::Vision,
        question: "描述图片内容",
        pieces: &["图片中是一只橘猫坐在沙发上。"],
        id: "chatcmpl_vision001",
        usage: None,
    },
    Example {
        model: TEXT_MODEL,
        kind: Kind::Json,
        question: "返回一个用户对象",
        pieces: &[r#"{"name":"Tom","age":25,"email":"tom@example.com"}"#],
        id: "chatcmpl_abc123",
        usage: None,
    },
    Example {
        model: TEXT_MODEL,
        kind: Kind::Chat,
        question: "介绍一下Linux",
        pieces: &["Linux", " 是一个开源操作系统..."],
        id: "chatcmpl_abc123",
        usage: None,
    },
    Example {
        model: IMAGE_MODEL,
        kind: Kind::Created,
        question: "生成一只坐在月球上的橘猫,超写实风格",
        pieces: &[],
        id: "chatcmpl_img_A1B2C3",
        usage: Some((42, 1560)),
    },
    Example {
        model: IMAGE_MODEL,
        kind: Kind::Edited,
        question: "给这只猫戴上墨镜",
        pieces: &[],
        id: "chatcmpl_img_edit_001",
        usage: None,
    },
    Example {
        model: IMAGE_MODEL,
        kind: Kind::Vision,
        question: "请描述这张图片",
        pieces: &["图片中是一只橘猫坐在窗台上,阳光从左侧照射进来。"],
        id: "chatcmpl_vision_001",
        usage: None,
    },
];

/// The example that asks this very question.
pub(super) fn of(question: &Question) -> Option<&'static Example> {
    EXAMPLES.iter().find(|one| {
        one.question == question.text && one.model == question.model && one.kind == question.kind()
    })
}
