//! `[[command]]` of a profile: what a device can be told to do, and every mistake in it.

use super::{parse, shipped};
use fengsui::model::RegisterWrite;

/// A profile with this after its points.
fn with(
    link: &str,
    from: &str,
    commands: &str,
) -> Result<fengsui::profile::Profile, Vec<fengsui::model::Problem>> {
    parse(&format!(
        "[device]\nvendor = \"a\"\nmodel = \"b\"\nname = {{ zh = \"甲\", en = \"a\" }}\nsource = \"a test\"\n{link}\n\
         [[point]]\nname = \"p\"\nclass = \"residual_current\"\nunit = \"mA\"\nfrom = {from}\n{commands}\n\
         [[example]]\nname = \"a\"\ninput = \"@1: 0001\"\nreadings = {{ p = \"1 mA\" }}\n\
         [[example]]\nname = \"b\"\ninput = \"@1+1: no_answer\"\nrefused = true\n"
    ))
}

fn modbus(commands: &str) -> Result<fengsui::profile::Profile, Vec<fengsui::model::Problem>> {
    let from = "{ table = \"holding\", address = 1, type = \"u16\" }";
    with("[modbus]\npoll_every_secs = 1\naddress_base = 1", from, commands)
}

fn command(name: &str, rest: &str) -> String {
    format!("[[command]]\nname = \"{name}\"\ntext = {{ zh = \"做\", en = \"do\" }}\n{rest}\n")
}

#[test]
fn a_command_is_a_write_counted_as_the_manual_counts() {
    let text = [
        command("one", "table = \"coil\"\naddress = 1\nvalue = true"),
        command("two", "table = \"holding\"\naddress = 41\nvalue = 65535"),
        command("three", "table = \"coil\"\naddress = 3\nvalues = [1, 0, true]"),
        command("four", "table = \"holding\"\naddress = 2\nvalues = [7]"),
    ]
    .concat();
    let writes: Vec<RegisterWrite> =
        modbus(&text).unwrap().commands.into_iter().map(|command| command.write).collect();
    assert_eq!(
        writes,
        [
            RegisterWrite::Coil { address: 0, on: true },
            RegisterWrite::Register { address: 40, word: 65535 },
            RegisterWrite::Coils { address: 2, on: [true, false, true].into() },
            RegisterWrite::Registers { address: 1, words: [7].into() },
        ]
    );
    let names: Vec<&str> =
        shipped("waveshare/modbus-rtu-io-8ch").commands.iter().map(|command| command.name.as_str()).collect();
    assert_eq!(names, ["siren-on", "siren-off", "outputs-off"]);
}

#[test]
fn every_mistake_in_a_command_is_told() {
    let cases = [
        (command("a", "table = \"input\"\naddress = 1\nvalue = 1"), "\"input\" is unknown here"),
        (command("a", "table = \"coil\"\naddress = 0\nvalue = 1"), "no address 0"),
        (
            command("a", "table = \"holding\"\naddress = 40011\nvalue = 1"),
            "address = 11 with address_base = 1",
        ),
        (command("a", "table = \"coil\"\naddress = 1\nvalue = 2"), "a coil is on or off"),
        (command("a", "table = \"holding\"\naddress = 1\nvalue = true"), "a register holds a number"),
        (command("a", "table = \"coil\"\naddress = 1"), "either value or values"),
        (command("a", "table = \"coil\"\naddress = 1\nvalue = 1\nvalues = [1]"), "either value or values"),
        (command("a", "table = \"coil\"\naddress = 1\nvalues = []"), "0 values"),
        (command("a", "table = \"holding\"\naddress = 65536\nvalues = [1, 2]"), "beyond address 65535"),
        (command("Ä", "table = \"coil\"\naddress = 1\nvalue = 1"), "is no name"),
        (command("a", "table = \"coil\"\naddress = 1\nvalue = 1").repeat(2), "there twice"),
    ];
    for (text, wanted) in cases {
        let problems = modbus(&text).unwrap_err();
        assert!(
            problems.iter().any(|problem| problem.to_string().contains(wanted)),
            "{wanted}: {problems:?}"
        );
    }
    let long = format!("values = {:?}", vec![1; 124]);
    let problems = modbus(&command("a", &format!("table = \"holding\"\naddress = 1\n{long}"))).unwrap_err();
    assert!(problems.iter().any(|problem| problem.to_string().contains("124 values")), "{problems:?}");
}

#[test]
fn a_device_on_mqtt_has_no_commands() {
    let text = command("a", "table = \"coil\"\naddress = 1\nvalue = 1");
    let problems = with("[mqtt]\ntopics = [\"a/{address}\"]", "{ json = \"p\" }", &text).unwrap_err();
    assert!(problems.iter().any(|problem| problem.to_string().contains("a Modbus write")), "{problems:?}");
}
