//! The catalogue of models: what is found, and what a page of a model says.

use super::*;

async fn found(room: &DutyRoom, cookie: &str, question: &str) -> Vec<String> {
    let answer = json(send(room, ask("GET", &format!("/api/v1/catalogue?{question}"), cookie)).await).await;
    let models = answer["models"].as_array().unwrap().iter();
    models.map(|model| model["profile"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_model_is_found_by_maker_number_names_classes_and_points() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let all = found(&room, &cookie, "").await;
    let mut models = 0;
    for folder in
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/device-profiles")).unwrap().flatten()
    {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            models += text.lines().filter(|line| ["[device]", "[[variant]]"].contains(line)).count();
        }
    }
    assert_eq!(all.len(), models, "every shipped model, and no other");
    // Maker and number; Chinese and English name; class; point; in any case and order, all of the words.
    for question in [
        "q=ACREL",
        "q=adw300%20acrel",
        "q=smoke-json",
        "q=%E7%83%9F",
        "q=residual_current",
        "q=modbus%20energy",
    ] {
        let some = found(&room, &cookie, question).await;
        assert!(!some.is_empty() && some.len() < all.len(), "{question}: {some:?}");
    }
    assert_eq!(found(&room, &cookie, "q=smoke%20nobody-makes-this").await, [""; 0]);
    let (fire, smoke) = (found(&room, &cookie, "kind=fire").await, "fengsui/smoke-json".to_owned());
    assert!(fire.contains(&smoke) && fire.len() < all.len());
    assert!(!found(&room, &cookie, "kind=electrical").await.contains(&smoke));
    assert_eq!(found(&room, &cookie, "kind=unheard-of").await, [""; 0]);
}

#[tokio::test]
async fn the_page_of_a_model_says_what_it_raises_by_which_standard_in_both_languages() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page = text(send(&room, ask("GET", "/catalogue/fengsui/smoke-json", &cookie)).await).await;
    for words in [
        "感烟火警",
        "须由人复位",
        "依据：设备上报",
        "[[site.zone.device]]",
        "未经实物验证",
        "site/{site}/device/{address}/up",
    ] {
        assert!(page.contains(words), "{words} is not in {page}");
    }
    let english = format!("{cookie}; fengsui_lang=en");
    let page = text(send(&room, ask("GET", "/catalogue/fengsui/smoke-json", &english)).await).await;
    assert!(page.contains("Smoke alarm (red, a person resets it)"), "{page}");
    let missing = send(&room, ask("GET", "/catalogue/nobody/knows", &cookie)).await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_list_of_a_question_that_is_a_script_is_only_text() {
    let room = filled().await;
    let cookie = sign_in(&room).await;
    let page =
        text(send(&room, ask("GET", "/catalogue?q=%22%3E%3Cscript%3E&kind=%3Cb%3E", &cookie)).await).await;
    assert!(!page.contains("<script>") && !page.contains("<b>\""), "{page}");
}
