//! What is read first, and how often.

use super::{parse, shipped};

#[test]
fn urgent_points_are_read_first_and_often_and_ordinary_ones_of_the_same_period_ride_along() {
    let every = |secs: u32| format!("every_secs = {secs}");
    let field = |name: &str, address: u16, every: &str| {
        format!(
            "[[point]]\nname = \"{name}\"\nclass = \"residual_current\"\nunit = \"mA\"\n\
             from = {{ table = \"holding\", address = {address}, type = \"u16\", {every} }}\n"
        )
    };
    let points = [field("a", 0, &every(1)), field("b", 1, &every(10)), field("c", 2, &every(10))].concat();
    let text = format!(
        "[device]\nvendor = \"a\"\nmodel = \"b\"\nname = {{ zh = \"甲\", en = \"a\" }}\nsource = \"a test\"\n\
         [modbus]\npoll_every_secs = 1\n{points}\
         [[example]]\nname = \"a\"\ninput = \"@0: 0001 0002 0003\"\n\
         [[example]]\nname = \"b\"\ninput = \"@0+3: no_answer\"\nrefused = true\n"
    );
    let profile = parse(&text).unwrap();
    let plan = |urgent: &str| -> Vec<(u16, u16, i64, bool)> {
        let plan = profile.poll_plan_with(&|place| profile.points[place].name == urgent);
        plan.into_iter().map(|read| (read.start, read.count, read.every.as_millis(), read.urgent)).collect()
    };
    assert_eq!(plan(""), [(0, 1, 1000, false), (1, 2, 10_000, false)]);
    // Read every 2 s, apart from its slow neighbour, and before the fast one.
    assert_eq!(plan("c"), [(2, 1, 2000, true), (0, 1, 1000, false), (1, 1, 10_000, false)]);
    assert_eq!(plan("a"), [(0, 1, 1000, true), (1, 2, 10_000, false)]);
    let contacts = shipped("waveshare/modbus-rtu-io-8ch");
    let together = contacts.poll_plan_with(&|place| contacts.points[place].name == "call-point");
    assert!(together.len() == 1 && together[0].urgent, "one read of eight bits stays one: {together:?}");
}
