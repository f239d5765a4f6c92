//! `docs/add-a-device.md`, followed literally: its files are written, its commands run, and what it says comes out comes out.

use crate::support::ports::{free_port, until};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A block of the page: what stands behind its three ticks, and its text.
struct Block {
    what: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let parts: Vec<&str> = page.split("\n```").collect();
    parts
        .chunks(2)
        .filter_map(|pair| {
            let (what, text) = pair.get(1)?.split_once('\n')?;
            Some(Block { what: what.to_owned(), text: format!("{text}\n") })
        })
        .collect()
}

/// Runs a block as a person would paste it, and gives what it said.
fn paste(folder: &Path, script: &str) -> (bool, String) {
    let output = shell(folder, script).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn shell(folder: &Path, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_fengsui")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).current_dir(folder).env("PATH", path);
    command
}

/// Ends with the test, whatever becomes of it.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn the_ten_minute_tutorial_works_as_it_stands() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/add-a-device.md")).unwrap();
    // Other tests have these ports as well.
    let (web, broker) = (free_port().to_string(), free_port().to_string());
    let page = page.replace("8080", &web).replace("1883", &broker);
    let folder = tempfile::tempdir().unwrap();
    let (mut said, mut again) = (String::new(), None::<String>);
    let mut running = Vec::new();
    let mut count = 0;
    for Block { what, text } in blocks(&page) {
        count += 1;
        match what.as_str() {
            "sh" => {
                let (good, out) = paste(folder.path(), &text);
                assert!(good, "{text}{out}");
                (said, again) = (out, None);
            }
            "sh until" => (said, again) = (String::new(), Some(text)),
            "sh background" => {
                let command = format!("exec {text}");
                let child =
                    shell(folder.path(), &command).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
                running.push(Background(child.unwrap()));
                until("the gateway's broker", || TcpStream::connect(format!("127.0.0.1:{broker}")).is_ok())
                    .await;
            }
            "text" => expect(folder.path(), &text, &mut said, again.as_deref()).await,
            file => {
                let (how, name) = file.split_once(' ').and_then(|(_, how)| how.split_once('=')).unwrap();
                let path = folder.path().join(name);
                let old =
                    if how == "append" { std::fs::read_to_string(&path).unwrap() } else { String::new() };
                std::fs::write(path, old + &text).unwrap();
            }
        }
    }
    assert!(count >= 15 && running.len() == 1, "{count} blocks");
}

/// Every line of the block stands in what was said; `again`: perhaps only after some time.
async fn expect(folder: &Path, lines: &str, said: &mut String, again: Option<&str>) {
    let missing = |said: &str| lines.lines().find(|line| !said.contains(*line)).map(str::to_owned);
    if let Some(script) = again {
        until(lines, || {
            *said = paste(folder, script).1;
            missing(said).is_none()
        })
        .await;
    }
    assert_eq!(missing(said), None, "{said}");
}
