//! Pictures: a quota holds for them as for words, by what their size and quality cost, and no bound is
//! written into requests whose API has none.

use super::{MORNING_MS, at, open, whole};
use crate::harness::{IMAGE_MODEL, Upstream, World, request};

/// Tokens of the request's prompt, more or less.
const PROMPT: u64 = 60;

fn picture(rest: &str) -> String {
    let messages = r#""messages":[{"role":"user","content":"A cat on the moon."}]"#;
    format!(r#"{{"model":"{IMAGE_MODEL}",{messages}{rest}}}"#)
}

#[tokio::test]
async fn a_quota_holds_for_pictures_that_come_at_once() {
    let upstream = Upstream::start().await;
    let (environment, _hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--daily-tokens", "4200"]).await;
    let asked = picture(r#","quality":"high""#);
    let mut first = open(&world, &key, &asked).await;
    let (mut call, received) = upstream.call().await;
    for _ in 1..6 {
        let refused = super::ask(&world, &key, &asked).await;
        assert_eq!((refused.status, &*refused.code()), (429, "insufficient_quota"));
    }
    whole(&mut call, &received, 4_173).await;
    assert_eq!(first.answer().await.status, 200);
    world.settled().await;
    let rows = world.rows_eventually(1).await;
    assert!(rows[0].total_tokens <= 4_200 && rows[0].reserved_tokens >= rows[0].total_tokens);
    world.finish().await;
}

#[tokio::test]
async fn a_picture_reserves_what_it_may_cost() {
    let upstream = Upstream::start().await;
    let more = "[[model]]\nname = \"gpt-5.4\"\nmakes_images = true\n";
    let world = World::before(&upstream).more(more).start().await;
    let chat = "/v1/chat/completions";
    let images = "/v1/images/generations";
    let prompted = |rest: &str| format!(r#"{{"model":"gpt-5.4","prompt":"A cat."{rest}}}"#);
    for (path, body, output) in [
        (chat, picture(""), 1_800),
        (chat, picture(r#","size":"auto","quality":"auto""#), 1_800),
        (chat, picture(r#","n":3,"size":"1024x1536","quality":"low""#), 3 * 408),
        (chat, picture(r#","quality":"high","size":"1536x1024","stream":true"#), 6_208),
        (chat, picture("").replace(IMAGE_MODEL, "gpt-5.4"), 1_800),
        (images, prompted(""), 1_800),
        (images, prompted(r#","n":2,"quality":"medium""#), 2 * 1_056),
        (images, prompted(r#","size":"2048x1024","quality":"hd""#), 2 * 4_160),
    ] {
        let mut client = world.connect().await;
        client.send(request("POST", path, &world.key, "", &body).as_bytes()).await;
        let (mut call, received) = upstream.call().await;
        let reserved = world.server().outstanding().1;
        assert!((output..output + PROMPT).contains(&reserved), "{body}: {reserved}");
        whole(&mut call, &received, 9).await;
        assert_eq!(client.answer().await.status, 200);
        world.settled().await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_model_that_makes_pictures_is_not_clamped() {
    let upstream = Upstream::start().await;
    let (environment, _hand) = at(MORNING_MS);
    let world = World::before(&upstream).environment(environment).start().await;
    let key = world.new_key(&["--clamp", "--daily-tokens", "2000"]).await;
    let mut client = open(&world, &key, &picture("")).await;
    let (mut call, received) = upstream.call().await;
    assert_eq!(String::from_utf8_lossy(&received.body), picture(""));
    whole(&mut call, &received, 1_573).await;
    assert_eq!(client.answer().await.status, 200);
    world.settled().await;
    let refused = super::ask(&world, &key, &picture("")).await;
    assert_eq!((refused.status, &*refused.code()), (429, "insufficient_quota"));
    world.finish().await;
}
