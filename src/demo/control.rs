//! THE DEMO, the visitor's hand: routes behind the sign-in that tell a chapter, the whole story, or end it.

use super::story::{CHAPTERS, Storyteller};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// `GET /api/v1/demo`, `POST /api/v1/demo/{restart|calm|<chapter>}`.
pub(super) fn routes(teller: Storyteller) -> Router {
    Router::new().route("/api/v1/demo", get(list)).route("/api/v1/demo/{id}", post(tell)).with_state(teller)
}

async fn list(State(teller): State<Storyteller>) -> Json<Value> {
    let chapters = CHAPTERS.iter().zip(teller.running());
    let chapters: Vec<Value> = chapters
        .map(|(chapter, running)| {
            json!({
                "id": chapter.id, "zh": chapter.zh, "en": chapter.en,
                "about_zh": chapter.about_zh, "about_en": chapter.about_en, "running": running,
            })
        })
        .collect();
    Json(Value::Array(chapters))
}

async fn tell(State(teller): State<Storyteller>, Path(id): Path<String>) -> (StatusCode, Json<Value>) {
    let told = match id.as_str() {
        "restart" => {
            teller.restart();
            true
        }
        "calm" => {
            teller.calm();
            true
        }
        chapter => teller.tell(chapter),
    };
    if told {
        (StatusCode::ACCEPTED, Json(json!({ "told": id })))
    } else {
        let error = json!({
            "error": "no_such_chapter",
            "message_zh": "没有这个情节",
            "message_en": "there is no such chapter",
        });
        (StatusCode::NOT_FOUND, Json(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::World;
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    async fn ask(router: &Router, method: &str, path: &str) -> (StatusCode, Value) {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_visitor_tells_one_chapter_and_only_that_one_runs() {
        let router = routes(Storyteller::new(World::default()));
        assert_eq!(ask(&router, "POST", "/api/v1/demo/smoke").await.0, StatusCode::ACCEPTED);
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let (_, chapters) = ask(&router, "GET", "/api/v1/demo").await;
        let running: Vec<&Value> =
            chapters.as_array().unwrap().iter().filter(|chapter| chapter["running"] == true).collect();
        assert_eq!(running.len(), 1, "{chapters}");
        assert_eq!(running[0]["id"], "smoke");
        let (status, refused) = ask(&router, "POST", "/api/v1/demo/flood").await;
        assert_eq!((status, &refused["error"]), (StatusCode::NOT_FOUND, &json!("no_such_chapter")));
    }
}
