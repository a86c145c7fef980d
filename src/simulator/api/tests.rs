//! Every answer of every API is what its clients can read, and states what is counted for it.

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::super::options::Options;
use super::*;

const FORM: &str = "multipart/form-data; boundary=b";

fn ask(
    path: &str,
    content_type: &'static str,
    body: &str,
    sim: &[(&'static str, &'static str)],
) -> Result<Answered, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in sim {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    let controls = Controls::read(&headers, &Options::default())?;
    let asked = Api::read(&headers, &Bytes::from(body.to_owned()))?;
    let signature = Signature { id: "0f", created: 7 };
    Api::of(path).expect(path).answer(&asked, &controls, &signature)
}

fn post(path: &str, body: &Value, sim: &[(&'static str, &'static str)]) -> Answered {
    let body = body.to_string();
    ask(path, JSON, &body, sim).unwrap_or_else(|refusal| panic!("{path} {body}: {refusal:?}"))
}

fn object(answered: Answered) -> Value {
    let Content::Whole(_, bytes) = answered.content else { panic!("a stream") };
    serde_json::from_slice(&bytes).expect("JSON")
}

/// The events: what stands after `event:`, and the object.
fn events(answered: Answered) -> (Vec<(String, Value)>, String, u64) {
    let Content::Stream(mut queue) = answered.content else { panic!("no stream") };
    let (mut events, mut tail, mut tokens) = (Vec::new(), String::new(), 0);
    while let Some(event) = queue.next() {
        tokens += event.tokens;
        let text = String::from_utf8(event.bytes.to_vec()).expect("UTF-8");
        let (name, rest) = match text.strip_prefix("event: ") {
            Some(rest) => rest.split_once('\n').expect("a line"),
            None => ("", &*text),
        };
        let data = rest.strip_prefix("data: ").and_then(|it| it.strip_suffix("\n\n")).expect(&text);
        match serde_json::from_str(data) {
            Ok(value) => events.push((name.to_owned(), value)),
            Err(_) => tail = data.to_owned(),
        }
    }
    (events, tail, tokens)
}

#[test]
fn streams_say_what_the_whole_answers_say() {
    let message = json!([{"role":"user","content":"What is a weir?"}]);
    let cases = [
        (
            "/v1/completions",
            json!({"model":"m","prompt":"a"}),
            "/choices/0/text",
            "/choices/0/text",
        ),
        (
            "/v1/responses",
            json!({"model":"m","input":message}),
            "/output/0/content/0/text",
            "/delta",
        ),
        (
            "/v1/messages",
            json!({"model":"m","max_tokens":99,"messages":message}),
            "/content/0/text",
            "/delta/text",
        ),
    ];
    for (path, mut body, whole, delta) in cases {
        let answered = post(path, &body, &[]);
        let cost = (answered.prompt_tokens, answered.completion_tokens);
        let said = object(answered).pointer(whole).and_then(Value::as_str).map(str::to_owned);
        body["stream"] = json!(true);
        let answered = post(path, &body, &[]);
        assert_eq!((answered.prompt_tokens, answered.completion_tokens), cost);
        let (events, tail, tokens) = events(answered);
        let pieces = events.iter().filter_map(|(_, event)| event.pointer(delta)?.as_str());
        assert_eq!(Some(pieces.collect::<String>()), said, "{path}");
        assert_eq!(
            (tokens, &*tail),
            (cost.1, if path.ends_with("completions") { "[DONE]" } else { "" })
        );
        for (at, (name, event)) in events.iter().enumerate() {
            if path != "/v1/completions" {
                assert_eq!(event["type"], **name, "{path}");
            }
            if path == "/v1/responses" {
                assert_eq!(event["sequence_number"], at, "{path}");
            }
        }
    }
}

#[test]
fn usage_stands_where_each_api_has_it() {
    let heard = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nM\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nsound\r\n--b--";
    let hear = |path, model: &str| ask(path, FORM, &heard.replace('M', model), &[]).expect("valid");
    assert_eq!(object(hear("/v1/audio/transcriptions", "m"))["usage"]["type"], "tokens");
    let timed = hear("/v1/audio/transcriptions", "whisper");
    assert_eq!((timed.prompt_tokens, timed.completion_tokens), (0, 0));
    assert_eq!(object(timed)["usage"], json!({"type":"duration","seconds":1}));
    assert_eq!(object(hear("/v1/audio/translations", "m")).get("usage"), None);

    let body = json!({"model":"m","prompt":"a","input":"a","stream":true,"stream_format":"sse",
        "voice":"v","n":2,"max_tokens":5,"messages":[],"stream_options":{"include_usage":true}});
    for (path, place) in [
        ("/v1/completions", "/usage/total_tokens"),
        ("/v1/responses", "/response/usage/total_tokens"),
        ("/v1/images/generations", "/usage/total_tokens"),
        ("/v1/audio/speech", "/usage/total_tokens"),
    ] {
        let answered = post(path, &body, &[]);
        let cost = answered.prompt_tokens + answered.completion_tokens;
        let (found, ..) = events(answered);
        let last = found.last().expect("events");
        assert_eq!(last.1.pointer(place), Some(&json!(cost)), "{path}");
        let none = events(post(path, &body, &[("x-sim-usage", "none")])).0;
        assert!(none.iter().all(|(_, event)| event.pointer(place).is_none()), "{path}");
    }
    let answered = post("/v1/messages", &body, &[]);
    let output = answered.completion_tokens;
    let (found, ..) = events(answered);
    assert_eq!(found[found.len() - 2].1["usage"]["output_tokens"], output);
    let two = object(post("/v1/embeddings", &json!({"model":"m","input":["a",[1,2]]}), &[]));
    assert_eq!(two["usage"], json!({"prompt_tokens":3,"total_tokens":3}));
    assert_eq!(two["data"][1]["embedding"].as_array().map(Vec::len), Some(8));
}

#[test]
fn a_failing_stream_fails_as_its_api_does_and_one_without_end_has_none() {
    let body =
        json!({"model":"m","input":"a","prompt":"a","max_tokens":9,"messages":[],"stream":true});
    for (path, failure, end) in [
        ("/v1/completions", "data: {\"error\":", "[DONE]"),
        ("/v1/responses", "event: error\ndata: {\"type\":\"error\",", "response.completed"),
        ("/v1/messages", "event: error\ndata: {\"type\":\"error\",\"error\":", "message_stop"),
    ] {
        let Content::Stream(mut queue) = post(path, &body, &[]).content else {
            panic!("no stream")
        };
        queue.next();
        queue.fail();
        let last = queue.next().expect("an error").bytes;
        assert!(last.starts_with(failure.as_bytes()), "{last:?}");
        assert!(queue.next().is_none() && queue.has_failed());
        let endless = post(path, &body, &[("x-sim-fault", "no-done")]);
        let Content::Stream(mut queue) = endless.content else { panic!("no stream") };
        while let Some(event) = queue.next() {
            assert!(!String::from_utf8_lossy(&event.bytes).contains(end), "{path}");
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (path, body) in [
        ("/v1/completions", "{"),
        ("/v1/completions", r#"{"prompt":"a"}"#),
        ("/v1/completions", r#"{"model":"m"}"#),
        ("/v1/completions", r#"{"model":"m","prompt":[]}"#),
        ("/v1/completions", r#"{"model":"m","prompt":"a","n":0}"#),
        ("/v1/completions", r#"{"model":"m","prompt":"a","stream":"true"}"#),
        ("/v1/completions", r#"{"model":"m","prompt":"a","max_tokens":"5"}"#),
        ("/v1/responses", r#"{"model":"m"}"#),
        ("/v1/messages", r#"{"model":"m","messages":[]}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"a","encoding_format":"hex"}"#),
        ("/v1/embeddings", r#"{"model":"m","input":"a","dimensions":0}"#),
        ("/v1/images/edits", r#"{"model":"m","prompt":"a"}"#),
        ("/v1/images/generations", r#"{"model":"m","prompt":"a","size":"1x1"}"#),
        ("/v1/audio/speech", r#"{"model":"m","input":"a"}"#),
        ("/v1/audio/transcriptions", r#"{"model":"m"}"#),
    ] {
        let refusal = ask(path, JSON, body, &[]).expect_err(body);
        assert_eq!(refusal.status, 400, "{path} {body}");
    }
    assert_eq!(Api::of("/v1/chat/completions"), None);
    for (path, api) in super::PATHS {
        assert_eq!((Api::of(path), api.path()), (Some(api), path));
    }
}

#[test]
fn tools_are_called_and_what_they_say_is_taken_up() {
    let city = json!({"type":"object","properties":{"city":{"type":"string"}}});
    let user = json!({"role":"user","content":"What is the weather in Paris?"});
    let arguments = json!({"city": "Paris"});
    let call = |path: &str, tools: Value, choice: Value| {
        json!({"model":"m","max_tokens":99,"tools":tools,"tool_choice":choice,
            if path.ends_with("messages") { "messages" } else { "input" }: [user]})
    };

    let tools = json!([{"type":"web_search"}, {"type":"function","name":"get_time","parameters":{}},
        {"type":"function","name":"get_weather","parameters":city}]);
    let path = "/v1/responses";
    for choice in
        [json!("auto"), json!("required"), json!({"type":"function","name":"get_weather"})]
    {
        let item = &object(post(path, &call(path, tools.clone(), choice), &[]))["output"][0];
        assert_eq!(
            (&item["type"], &item["name"]),
            (&json!("function_call"), &json!("get_weather"))
        );
        assert_eq!(item["arguments"], arguments.to_string());
    }
    let none = object(post(path, &call(path, tools.clone(), json!("none")), &[]));
    assert_eq!(none["output"][0]["type"], "message");
    let mut body = call(path, tools, json!("auto"));
    body["stream"] = json!(true);
    let answered = post(path, &body, &[("x-sim-pad-bytes", "3")]);
    let cost = answered.completion_tokens;
    let (found, _, tokens) = events(answered);
    let deltas = found.iter().filter(|(name, _)| name.ends_with("arguments.delta"));
    let said: String = deltas.filter_map(|(_, event)| event["delta"].as_str()).collect();
    assert_eq!((said, tokens), (arguments.to_string(), cost));
    for (at, (name, event)) in found.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(at)));
    }
    let output = json!({"type":"function_call_output","call_id":"call_0f","output":"22 degrees"});
    body["input"].as_array_mut().expect("a list").push(output);
    body["stream"] = json!(false);
    let text = &object(post(path, &body, &[]))["output"][0]["content"][0]["text"];
    assert!(text.as_str().is_some_and(|it| it.starts_with("According to the tool: 22")), "{text}");

    let path = "/v1/messages";
    let tools = json!([{"name":"get_weather","input_schema":city}]);
    for choice in
        [json!({"type":"auto"}), json!({"type":"any"}), json!({"type":"tool","name":"get_weather"})]
    {
        let message = object(post(path, &call(path, tools.clone(), choice), &[]));
        assert_eq!(message["stop_reason"], "tool_use");
        assert_eq!(message["content"][0]["input"], arguments);
    }
    let mut body = call(path, tools, json!(null));
    body["stream"] = json!(true);
    let (found, _, tokens) = events(post(path, &body, &[]));
    let pieces = found.iter().filter_map(|(_, event)| event["delta"]["partial_json"].as_str());
    assert_eq!((pieces.collect::<String>(), tokens), (arguments.to_string(), cost));
    let result = json!([{"type":"tool_result","tool_use_id":"toolu_0f","content":[
        {"type":"text","text":"22 degrees"}]}]);
    let last = json!({"role":"user","content":result});
    body["messages"].as_array_mut().expect("a list").push(last);
    body["stream"] = json!(false);
    let text = &object(post(path, &body, &[]))["content"][0]["text"];
    assert!(text.as_str().is_some_and(|it| it.starts_with("According to the tool: 22")), "{text}");

    let unknown = r#"{"model":"m","input":"a","tool_choice":{"type":"function","name":"x"}}"#;
    assert!(ask("/v1/responses", JSON, unknown, &[]).is_err());
}

/// The form stands in another place in each API; a stream says the same.
#[test]
fn an_object_of_the_form_that_is_asked_for_is_answered() {
    let schema = json!({"type":"object","properties":{"days":{"type":"integer"}}});
    let text = "7 days in Paris";
    let responses = json!({"model":"m","input":[{"role":"user","content":text}]});
    let messages = json!({"model":"m","max_tokens":99,"messages":[{"role":"user","content":text}]});
    let strict = json!({"type":"json_schema","name":"x","schema":schema,"strict":true});
    let days = json!({"days":7});
    let any = json!({"answer":format!("About \"{text}\":"),"question":text});
    let (in_text, in_config) = (json!({"format":strict}), json!({"format":strict,"effort":"low"}));
    for (body, field, format, expected) in [
        (&responses, "text", in_text, Some(&days)),
        (&responses, "text", json!({"format":{"type":"json_object"}}), Some(&any)),
        (&responses, "text", json!({"format":{"type":"text"},"verbosity":"low"}), None),
        (&messages, "output_config", in_config, Some(&days)),
        (&messages, "output_format", strict, Some(&days)),
        (&messages, "output_config", json!({"effort":"low"}), None),
    ] {
        let mut body = body.clone();
        body[field] = format;
        let is_messages = body.get("messages").is_some();
        let path = if is_messages { "/v1/messages" } else { "/v1/responses" };
        let whole = object(post(path, &body, &[]));
        let place = if is_messages { "/content/0/text" } else { "/output/0/content/0/text" };
        let said = whole.pointer(place).and_then(Value::as_str).expect("text").to_owned();
        assert_eq!(serde_json::from_str(&said).ok().as_ref(), expected, "{body}");
        body["stream"] = json!(true);
        let delta = if is_messages { "/delta/text" } else { "/delta" };
        let (found, ..) = events(post(path, &body, &[]));
        let pieces = found.iter().filter_map(|(_, event)| event.pointer(delta)?.as_str());
        assert_eq!(pieces.collect::<String>(), said, "{body}");
        for wrong in [json!({"format":{"type":"xml"}}), json!({"format":{"type":"json_schema"}})] {
            body[if is_messages { "output_config" } else { "text" }] = wrong;
            assert!(ask(path, JSON, &body.to_string(), &[]).is_err(), "{body}");
        }
    }
}

#[test]
fn pictures_are_described_and_made() {
    let gif = "R0lGODlhQAHwAAAAAA==";
    let url = format!("data:image/gif;base64,{gif}");
    let seen = "The image is a GIF of 320x240 pixels.";
    let ask_text = json!({"type":"input_text","text":"What is this?"});
    let responses = json!({"model":"m-image","input":[{"role":"user","content":[ask_text,
        {"type":"input_image","image_url":url}]}]});
    let message = json!({"model":"m","max_tokens":99,"messages":[{"role":"user","content":[
        {"type":"text","text":"What is this?"},
        {"type":"image","source":{"type":"base64","media_type":"image/gif","data":gif}}]}]});
    for (path, body, place) in [
        ("/v1/responses", &responses, "/output/0/content/0/text"),
        ("/v1/messages", &message, "/content/0/text"),
    ] {
        let answered = post(path, body, &[]);
        assert_eq!(answered.prompt_tokens, 4 + super::super::messages::IMAGE_PROMPT_TOKENS);
        let whole = object(answered);
        let said = whole.pointer(place).and_then(Value::as_str).expect("text");
        assert!(said.starts_with(seen), "{path}: {said}");
        let wrong = body.to_string().replace(gif, "AAAA");
        assert!(ask(path, JSON, &wrong, &[]).is_err(), "{path}");
    }

    let tool = json!({"type":"image_generation","size":"1024x1536","quality":"low"});
    let mut body = json!({"model":"m","input":"a cat","tools":[{"type":"web_search"}, tool]});
    let answered = post("/v1/responses", &body, &[]);
    let (prompt, cost) = (answered.prompt_tokens, answered.completion_tokens);
    let whole = object(answered);
    let item = &whole["output"][0];
    assert_eq!(item["type"], "image_generation_call");
    assert!(item["result"].as_str().is_some_and(|it| it.starts_with("iVBORw0KGgo")), "{item}");
    // The model's own usage, and the tool's beside it.
    let counts = |place: &str| whole.pointer(place).and_then(Value::as_u64);
    let own = (counts("/usage/input_tokens"), counts("/usage/output_tokens"));
    assert_eq!((own, prompt, cost), ((Some(2), Some(1)), 4, 409));
    assert_eq!(counts("/tool_usage/image_gen/output_tokens"), Some(408));
    body["stream"] = json!(true);
    let (found, _, tokens) = events(post("/v1/responses", &body, &[]));
    assert_eq!(tokens, cost);
    let done = found.iter().find(|(name, _)| name == "response.output_item.done");
    assert_eq!(done.map(|(_, event)| &event["item"]["result"]), Some(&item["result"]));
    for (at, (name, event)) in found.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(at)));
    }
    for (field, value) in [("tool_choice", json!("none")), ("tools", json!([]))] {
        let mut words = json!({"model":"m","input":"a cat","tools":[tool]});
        words[field] = value;
        let whole = object(post("/v1/responses", &words, &[]));
        assert_eq!(whole["output"][0]["type"], "message");
    }
}
