//! Asking the running server, which is done by its administration listener and with the administrator's token.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;

use crate::admin::{Quota, Wanted};
use crate::config::Config;

/// For all of it: the server is on this machine, or near.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(serde::Deserialize)]
struct Told {
    quotas: Vec<Quota>,
}

/// What the server says; else a sentence that says why it does not.
pub(super) fn ask(config: &Config, wanted: &Wanted) -> Result<Vec<Quota>, String> {
    let Some(token) = &config.admin.token else {
        return Err("set admin.token, and the running server is asked".to_owned());
    };
    let address = config.admin.listen;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let answer = runtime
        .block_on(async { tokio::time::timeout(DEADLINE, exchange(config, token, wanted)).await });
    let failed =
        |why: &dyn std::fmt::Display| format!("no answer from a server at {address} ({why})");
    let (status, body) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(_) => return Err(failed(&format!("for {} seconds", DEADLINE.as_secs()))),
    };
    if !status.is_success() {
        return Err(format!(
            "the server at {address} refuses ({status}); is admin.token the server's?"
        ));
    }
    let told: Told = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
    Ok(told.quotas)
}

async fn exchange(
    config: &Config,
    token: &SecretString,
    wanted: &Wanted,
) -> anyhow::Result<(hyper::StatusCode, Bytes)> {
    let address = config.admin.listen;
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    let request = Request::get(wanted.path())
        .header(header::HOST, address.to_string())
        .header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()))
        .body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end first, with all of the answer received.
        _ = &mut connection => answer.await,
    }
}
