//! The programs of the README do what it says: they print a change, and after a restart they continue.

use std::path::{Path, PathBuf};
use std::process::Command;

use ground::mongodb::bson::{Document, doc};
use ground::shared;
use mongostream_languages::{DEADLINE, Directory, Program, is_here, program_in, root};
use nix::sys::signal::Signal;

/// Writes the program where it can be built, and gives its path.
fn place(language: &str, code: &str, directory: &Path) -> PathBuf {
    let write = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    match language {
        "c" => write(directory.join("program.c"), code),
        "cpp" => write(directory.join("program.cpp"), code),
        "python" => write(directory.join("program.py"), code),
        "node" => {
            // As `npm install` would place it.
            let modules = directory.join("node_modules");
            std::fs::create_dir_all(&modules).unwrap();
            std::os::unix::fs::symlink(root().join("bindings/node"), modules.join("mongostream"))
                .unwrap();
            write(directory.join("program.mjs"), code)
        }
        "go" => {
            let folder = directory.join("program");
            write(folder.join("main.go"), code);
            let module = "github.com/mongostream/mongostream/bindings/go";
            let go = root().join("bindings/go").canonicalize().unwrap();
            let text = format!(
                "module example.com/program\n\ngo 1.24\n\nrequire {module} v0.0.0\n\nreplace {module} => {}\n",
                go.display()
            );
            write(folder.join("go.mod"), &text);
            let tidy =
                Command::new("go").args(["mod", "tidy"]).current_dir(&folder).output().unwrap();
            assert!(tidy.status.success(), "{}", String::from_utf8_lossy(&tidy.stderr));
            folder
        }
        other => panic!("{other} has no program"),
    }
}

fn its_program_continues_where_it_was(language: &str, fence: &str) {
    if !is_here(language) {
        return;
    }
    let database = shared().database("readme");
    let orders = shared().client().database(&database).collection::<Document>("orders");
    let directory = Directory::new("readme");
    let code = program_in("README.md", fence, "orders.token")
        .replace("mongodb://localhost:27017", shared().uri())
        .replace("\"shop\"", &format!("{database:?}"));
    let program = place(language, &code, &directory.0);
    // They take no arguments, and examples/run asks for three.
    let start =
        || Program::start(language, Some(&program), &[shared().uri(), "-", "-"], &directory.0);
    let mut running = start();
    // Before a stream is ready its place is saved.
    ground::wait_until(20 * DEADLINE, "a checkpoint", || {
        assert!(!running.has_ended(), "{}", running.said());
        directory.0.join("orders.token").exists()
    });
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    let line = running.line();
    assert!(line.contains(r#""DocumentId":"1""#), "{line}");
    running.signal(Signal::SIGKILL);
    running.end();
    orders.insert_one(doc! { "_id": 2 }).run().unwrap();
    let mut running = start();
    // The first one comes again if its ack was not saved.
    let mut line = running.line();
    if line.contains(r#""DocumentId":"1""#) {
        line = running.line();
    }
    assert!(line.contains(r#""DocumentId":"2""#), "{line}");
}

#[test]
fn c() {
    its_program_continues_where_it_was("c", "c");
}

#[test]
fn cpp() {
    its_program_continues_where_it_was("cpp", "cpp");
}

#[test]
fn go() {
    its_program_continues_where_it_was("go", "go");
}

#[test]
fn python() {
    its_program_continues_where_it_was("python", "python");
}

#[test]
fn node() {
    its_program_continues_where_it_was("node", "js");
}
