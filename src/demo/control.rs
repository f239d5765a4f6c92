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
