//! `mongostream check`: will a stream work here, and if not, what is to be done?

mod address;
mod finding;
mod images;
mod login;
mod oplog;
mod seed;
mod stream;
mod topology;
mod version;
mod wishes;

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use mongodb::options::ClientOptions;
use terminal_size::{Width, terminal_size};

use crate::failure::Failure;
use crate::flags;
use crate::output::print;
use crate::target::{self, Target};

use self::finding::{Finding, Findings, Level};
use self::wishes::{Watched, Wishes};
use crate::ask::{Asked, hasty, within};

/// How long the names of a mongodb+srv URI are looked up.
const LOOKUP: Duration = Duration::from_secs(5);
/// Where stdout is no terminal.
const USUAL_WIDTH: u16 = 100;

pub(crate) fn command() -> Command {
    let command = Command::new("check")
        .about("Find out whether a stream will work, and what to do if not")
        .long_about(
            "Find out whether a stream will work, and what to do if not.\n\n\
             Each server of the URI is asked directly first, then the deployment as the URI says, and in the end a \
             stream is really opened with the given options, but without a snapshot or a checkpoint. Nothing is \
             written. Exit code 0: no problem; 1: a problem; 2: wrong usage.",
        )
        .after_help(
            "Examples:\n  \
             mongostream check mongodb://localhost shop.orders\n  \
             mongostream check mongodb://localhost shop --full_document_before_change required --json",
        )
        .args(target::arguments())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print the findings as JSON, for programs"),
        );
    // How lines would look does not matter here.
    flags::add(command, &["json"])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let target = Target::of(matches);
    let wishes = Wishes::of(flags::given(matches));
    stream::validate(&target, &wishes)?;
    let findings = look(&target, &wishes)?;
    match matches.get_flag("json") {
        true => print(&format!("{:#}\n", findings.to_json()))?,
        false => {
            let width = terminal_size().map_or(USUAL_WIDTH, |(Width(width), _)| width);
            print(&findings.to_table(width.into()))?;
        }
    }
    if findings.has_problem() { Err(Failure::Told) } else { Ok(()) }
}

/// Looks at one thing after the other, until it makes no sense to go on.
fn look(target: &Target, wishes: &Wishes) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    let uri = target.uri.clone();
    let options = match within(LOOKUP, move || ClientOptions::parse(uri).run()) {
        Some(Ok(options)) => options,
        Some(Err(error)) if target.uri.starts_with("mongodb+srv://") => {
            findings.add(no_records(&error.kind.to_string()));
            return Ok(findings);
        }
        // The library says it better, and without secrets.
        Some(Err(_)) => {
            findings.add(stream::check(target, wishes)?);
            return Ok(findings);
        }
        None => {
            let text = format!("its name was not looked up within {} s", LOOKUP.as_secs());
            findings.add(no_records(&text));
            return Ok(findings);
        }
    };
    if let Some(password) = options.credential.as_ref().and_then(|login| login.password.as_deref())
    {
        findings.hide(password);
    }
    let watched = Watched::of(target, options.default_database.as_deref(), wishes);

    let (greetings, silences) = seed::greet(&options);
    findings.extend(silences);
    findings.extend(topology::check(&greetings, &options));
    if !greetings.is_empty() {
        let versions: Vec<_> = greetings.iter().filter_map(|greeting| greeting.version).collect();
        findings.extend(version::check(&versions, wishes));
    }
    // What is wrong so far would be found again, and more slowly.
    if findings.has_problem() {
        return Ok(findings);
    }
    let deployment = match Asked::new(hasty(options)) {
        Ok(deployment) => deployment,
        Err(refusal) => {
            findings.add(Finding::new(Level::Problem, ("login", "no_answer"), refusal.text, ""));
            return Ok(findings);
        }
    };
    findings.extend(login::check(&deployment, &watched, wishes));
    if findings.has_problem() {
        return Ok(findings);
    }
    findings.add(oplog::check(&deployment));
    findings.extend(images::check(&deployment, &watched, wishes));
    if !findings.has_problem() {
        findings.add(stream::check(target, wishes)?);
    }
    Ok(findings)
}

fn no_records(reason: &str) -> Finding {
    Finding::new(
        Level::Problem,
        ("reach", "srv"),
        format!("the servers of the mongodb+srv URI cannot be looked up: {reason}"),
        "check the host name, and the DNS of this machine: it must give SRV records for _mongodb._tcp.HOST; or use the \
         mongodb:// form with all hosts",
    )
}
