//! The health page and its API.

use super::*;

#[tokio::test]
async fn the_health_page_speaks_chinese_and_says_how_far_back_the_journal_goes() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/health", &cookie)).await).await;
    for words in [
        "收到的报文",
        "登录失败次数",
        "最早记录",
        "全部读数",
        "待送 <b class=\"num\">214</b> 批，恢复后自动补送",
    ] {
        assert!(page.contains(words), "the health page does not say {words}");
    }
    assert!(!page.contains("Frames taken"));
    let health = json(send(&room, ask("GET", "/api/v1/health", &cookie)).await).await;
    assert!(health["journal"]["oldest"].is_i64(), "{health}");
}
