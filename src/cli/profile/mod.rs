//! `fengsui profile`: for the person who adds a device. Only `new` and `doc` write a file, only `new --probe` and `try --live` speak
//! to anybody, and those only read.

mod check;
mod doc;
mod explain;
mod live;
mod new;
mod place;
mod schema;
mod test;
mod try_frame;
mod whole;

use super::check::EXIT_CONFIG;
use crate::clock::Clock;
use crate::config::library::shipped_library;
use crate::config::render::Colour;
use crate::config::{Disk, Files, Report};
use crate::model::Problem;
use crate::profile::{Profile, Vocabulary, profile_id};
use clap::{Args, Subcommand};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// The vocabulary is built in, and is no profile although it lies beside them.
const VOCABULARY_FILE: &str = "vocabulary.toml";

/// Check, test and explain device profiles.
#[derive(Debug, Subcommand)]
pub(super) enum Tool {
    /// Say everything that is wrong with profile files, each at its line, with what to do. Examples are not run.
    Check(Paths),
    /// Run the examples of profile files, like the tests of a program.
    Test {
        #[command(flatten)]
        files: Paths,
        /// Print the hazard examples that are missing, as they come out, to be read and put into the file.
        #[arg(long)]
        draft: bool,
        /// With --draft: put them at the end of the file. Those of variants are printed only.
        #[arg(long, requires = "draft")]
        write: bool,
    },
    /// Read a frame with a profile: its readings, what could not be read, and the hazards it would raise.
    Try(try_frame::Try),
    /// Say in plain words what a device will report, which hazards it can raise, and the standard behind each limit.
    Explain {
        /// One profile, <vendor>/<model>.toml.
        file: PathBuf,
    },
    /// Draft a profile: from a capture, from a payload, from the registers of a device, or by questions and answers.
    New(new::New),
    /// Write the tables of models and classes in a folder's README.md anew; without a README.md, print them.
    Doc(doc::Doc),
    /// Print the JSON Schema of profile files, with which an editor completes and underlines them.
    Schema,
}

/// Which files.
#[derive(Debug, Args)]
pub(super) struct Paths {
    /// Profile files, or folders of them.
    #[arg(default_value = "device-profiles")]
    paths: Vec<PathBuf>,
}

/// Beside the profiles lie the codecs that they name.
fn is_profile(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// Exit codes: 0 all is well, 1 an example fails or nothing of a frame can be read, 64 a file is wrong or cannot be read.
pub(super) fn run(tool: &Tool) -> ExitCode {
    let mut out = String::new();
    let code = match tool {
        Tool::Check(Paths { paths }) => check::run(&mut Asked::of(paths), &mut out),
        Tool::Test { files: Paths { paths }, draft, write } => {
            let written = if *write { test::write_drafts(&Asked::of(paths)) } else { Ok(()) };
            match written {
                Ok(()) => test::run(&Asked::of(paths), *draft, &mut out),
                Err(why) => {
                    out.push_str(&why);
                    out.push('\n');
                    EXIT_CONFIG
                }
            }
        }
        Tool::Try(arguments) => {
            let asked = Asked::of(std::slice::from_ref(&arguments.file));
            if let Some(place) = &arguments.live.live {
                return ExitCode::from(live::run(&asked, &arguments.live, place));
            }
            try_frame::run(&asked, arguments, Clock::system().now(), &mut out)
        }
        Tool::Schema => schema::run(&Asked::of(&[]), &mut out),
        Tool::Explain { file } => explain::run(&Asked::of(std::slice::from_ref(file)), &mut out),
        Tool::New(arguments) => new::run(arguments, &mut out),
        Tool::Doc(arguments) => {
            doc::run(&Asked::of(std::slice::from_ref(&arguments.folder)), arguments, &mut out)
        }
    };
    // A reader that goes away (`| head`) is no failure.
    drop(std::io::stdout().write_all(out.as_bytes()));
    ExitCode::from(code)
}

/// The files that were asked for, read as the gateway reads them.
struct Asked {
    profiles: Vec<Arc<Profile>>,
    /// Beside each, the file it stands in.
    names: Vec<Arc<str>>,
    vocabulary: Arc<Vocabulary>,
    report: Report,
    /// How many files there were, right and wrong.
    count: usize,
}

impl Asked {
    fn of(paths: &[PathBuf]) -> Self {
        let mut report = Report::default();
        let library = shipped_library(&mut report);
        let vocabulary = library.map(|library| library.vocabulary).unwrap_or_default();
        let mut files =
            Self { profiles: Vec::new(), names: Vec::new(), vocabulary, report: Report::default(), count: 0 };
        for path in paths {
            if path.is_dir() {
                match Disk.models_below(path) {
                    Ok(found) if found.is_empty() => {
                        files.refuse(path, "这个文件夹里没有型号文件 / no profile in this folder")
                    }
                    Ok(found) => {
                        found.iter().filter(|file| is_profile(file)).for_each(|file| files.add(file))
                    }
                    Err(error) => {
                        files.refuse(path, &format!("读不了这个文件夹 / cannot read this folder: {error}"))
                    }
                }
            } else {
                files.add(path);
            }
        }
        files
    }

    fn add(&mut self, path: &Path) {
        if path.file_name().is_some_and(|name| name == VOCABULARY_FILE) {
            return;
        }
        self.count += 1;
        let name: Arc<str> = path.display().to_string().into();
        let text = match Disk.text(path) {
            Ok(text) => text,
            Err(error) => {
                return self.refuse(path, &format!("读不了这个文件 / cannot read this file: {error}"));
            }
        };
        // The id is made of the folder and the file: a bare file name is looked at from where it lies.
        let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let beside = |codec: &str| Disk.text(&whole.with_file_name(codec)).ok();
        let parsed = profile_id(&whole.to_string_lossy())
            .and_then(|id| Profile::parse_all(id, &name, &text, &self.vocabulary, &beside));
        self.report.texts.insert(name.clone(), text.into());
        match parsed {
            Ok((model, variants)) => {
                for profile in std::iter::once(model).chain(variants) {
                    // The gateway uses the profile all the same; who writes the file is told.
                    self.report.problems.extend(profile.hazard_examples.problems.iter().cloned());
                    self.profiles.push(Arc::new(profile));
                    self.names.push(name.clone());
                }
            }
            Err(problems) => self.report.problems.extend(problems),
        }
    }

    fn refuse(&mut self, path: &Path, why: &str) {
        let help = "写出型号文件或文件夹的路径 / name a profile file or a folder";
        self.report.problems.push(Problem::error(&path.display().to_string().into(), None, why, help));
    }

    fn colour() -> Colour {
        if std::io::stdout().is_terminal() { Colour::Yes } else { Colour::No }
    }

    /// How many files are right. One with variants gives several profiles, one behind the other.
    fn usable(&self) -> usize {
        let mut names: Vec<&Arc<str>> = self.names.iter().collect();
        names.dedup();
        names.len()
    }

    /// The problems of all files.
    fn problems(&self) -> String {
        self.report.render(Self::colour())
    }

    fn is_wrong(&self) -> bool {
        self.report.errors() > 0
    }
}
