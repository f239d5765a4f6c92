//! WEB · the files a page loads: embedded in the binary, each with its licence beside it. None comes from elsewhere.

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "src/web/assets/"]
struct Assets;

/// Browsers ask again each time and get a 304 while the file is the same: a new version shows at once.
const CACHING: &str = "no-cache";

/// `GET /assets/{path}`.
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(file) = Assets::get(&path) else { return StatusCode::NOT_FOUND.into_response() };
    let digest = file.metadata.sha256_hash();
    let tag = digest.iter().take(8).fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let head = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, CACHING.to_owned())];
    if known.is_some_and(|known| known.trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let kind = match file.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    (head, [(header::CONTENT_TYPE, kind)], file.data).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendored_files_carry_their_licence() {
        for (file, licence) in [("uPlot.iife.min.js", "uPlot.LICENSE"), ("uPlot.min.css", "uPlot.LICENSE")] {
            assert!(Assets::get(file).is_some(), "{file} is missing");
            let licence = Assets::get(licence).expect("the licence is embedded");
            assert!(String::from_utf8_lossy(&licence.data).contains("MIT License"));
        }
    }
}
