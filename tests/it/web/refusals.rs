//! What is refused, in words; and who dawdles.

use super::*;

#[tokio::test]
async fn an_unknown_address_is_a_page_for_a_person_and_json_for_a_program() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let browser = |method: &str, path: &str| {
        let mut request = ask(method, path, &cookie);
        request
            .headers_mut()
            .insert(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8".parse().unwrap());
        request
    };
    for (path, status, words) in [
        ("/nowhere", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/points/ef-01/nothing", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/assets/nothing.js", StatusCode::NOT_FOUND, "没有这个页面"),
        ("/log?before=abc", StatusCode::BAD_REQUEST, "地址或提交的内容有错"),
        ("/sign-out", StatusCode::METHOD_NOT_ALLOWED, "这个地址不能这样打开"),
    ] {
        let response = send(&room, browser("GET", path)).await;
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key(header::CONTENT_SECURITY_POLICY), "{path}");
        let page = text(response).await;
        assert!(page.contains(words) && page.contains("<html lang=\"zh\">"), "{path}: {page}");
    }
    for (method, path) in [
        ("GET", "/api/nowhere"),
        ("GET", "/api/v1/log?before=abc"),
        ("POST", "/api/v1/log"),
        ("POST", "/api/v1/session"),
    ] {
        let response = send(&room, browser(method, path)).await;
        assert!(response.status().is_client_error(), "{path}");
        assert!(json(response).await["message_zh"].is_string(), "{method} {path}");
    }
    let plain = send(&room, ask("GET", "/nowhere", "")).await;
    assert_eq!(json(plain).await["error"], "not_found");
}

#[tokio::test]
async fn two_hundred_half_open_requests_do_not_keep_the_duty_officer_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let room = filled().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = fengsui::web::connections::serve(listener, room.router.clone(), room.cancel.clone());
    let serving = tokio::spawn(serving);
    let mut dawdling = Vec::new();
    for n in 0..200 {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        // Half of them say nothing at all.
        if n % 2 == 0 {
            client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
        }
        dawdling.push(client);
    }
    let ask = async {
        let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), ask).await.expect("nobody answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n"), "{answer}");
    // Each of them is shown out in time.
    let shown_out = async {
        for client in &mut dawdling {
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.ok();
        }
    };
    let within = fengsui::web::connections::HEAD_MAX + Duration::from_secs(20);
    tokio::time::timeout(within, shown_out).await.expect("a client that dawdles was kept");
    room.cancel.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("it did not stop").unwrap();
}
