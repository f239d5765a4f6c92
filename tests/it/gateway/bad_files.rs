//! Files that are wrong, and a second gateway on the first one's data: refused with what is wrong and what to do.

use crate::support::gateway::{BROKER, House, smoke, topic};
use std::process::Output;

fn refused(house: &House) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = house.command().output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

fn house() -> House {
    House::build(BROKER, &smoke("sd-1", "broker"))
}

#[test]
fn a_broken_gateway_file_ends_with_64_and_names_the_line() {
    let house = house();
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), text.replace("anonymous = true", "anonymus = true")).unwrap();
    let (code, told) = refused(&house);
    assert_eq!(code, Some(64), "{told}");
    assert!(
        told.contains("gateway.toml") && told.contains("anonymus") && told.contains("anonymous"),
        "{told}"
    );
    assert!(!house.data().exists(), "a wrong configuration opens nothing");
}

#[test]
fn a_broken_plan_ends_with_64_and_tells_all_its_mistakes() {
    let house = House::build(BROKER, &[smoke("sd-1", "broker"), smoke("sd-1", "brocker")].concat());
    let (code, told) = refused(&house);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("plan.toml") && told.contains("brocker") && told.contains("sd-1"), "{told}");
}

#[test]
fn a_broken_profile_ends_with_64_and_names_the_file() {
    let house = house();
    let profiles = house.config().with_file_name("profiles").join("acme");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("meter.toml"), "[device]\nvendor = \"acme\"\nmodel = 7\n").unwrap();
    let text = std::fs::read_to_string(house.config()).unwrap();
    std::fs::write(house.config(), format!("profiles_dir = \"profiles\"\n{text}")).unwrap();
    let (code, told) = refused(&house);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("meter.toml"), "{told}");
}

#[test]
fn a_missing_configuration_ends_with_64() {
    let house = house();
    std::fs::remove_file(house.config()).unwrap();
    let (code, told) = refused(&house);
    assert_eq!(code, Some(64), "{told}");
    assert!(told.contains("gateway.toml"), "{told}");
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_is_refused_and_the_first_goes_on() {
    let house = house();
    let gateway = house.launch().await;
    let (code, told) = refused(&house);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("in use by another gateway") && told.contains(&gateway.pid().to_string()),
        "{told}"
    );
    assert!(told.contains("stop that one first"), "what to do: {told}");
    let mut pen = gateway.pen("pen").await;
    pen.publish(&topic("sd-1"), r#"{"temperature":22.5}"#).await;
    gateway.last("sd-1/temperature", |last| last["value"] == 22.5).await;
    gateway.stop().await;
}
