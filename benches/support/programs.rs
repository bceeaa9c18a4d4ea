//! Programs in other languages: built where their tools are installed, else left out with the reason.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where programs and what they need are built; `cargo clean` removes it.
pub(crate) fn scratch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("benches");
    std::fs::create_dir_all(&directory).unwrap();
    directory
}

/// Runs a tool and returns what it prints; the error says why that was not possible.
pub(crate) fn tool(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|_| format!("{name} is not installed"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = text.trim_end().lines().last().unwrap_or("no reason given").to_owned();
        return Err(format!("{name} failed: {last}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    // What cargo tells this program of its package looks to build scripts like a change.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR"
            || text.starts_with("CARGO_PKG_")
            || text.starts_with("CARGO_MANIFEST_")
        {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The directory of the optimised shared library, as users build it.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| optimised("mongostream-capi"))
}

/// The optimised program `mongostream`, as users build it.
pub(crate) fn the_program() -> PathBuf {
    optimised("mongostream-cli").join("mongostream")
}

/// Builds a package of the workspace for users; the directory with what was built.
fn optimised(package: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut cargo = cargo();
    cargo.args(["build", "--profile", "dist", "--package", package, "--manifest-path"]);
    cargo.arg(root().join("Cargo.toml")).arg("--target-dir").arg(target);
    assert!(cargo.status().unwrap().success(), "{package} must build");
    target.join("dist")
}

/// Compiles a program in C or C++ against the library, or against what pkg-config knows by a name.
pub(crate) fn c(source: &Path, package: Option<&str>) -> Result<PathBuf, String> {
    let is_cpp = source.extension().is_some_and(|extension| extension == "cpp");
    let (compiler, standard) = if is_cpp { ("g++", "-std=c++17") } else { ("gcc", "-std=gnu11") };
    let name = source.file_name().unwrap().to_string_lossy().replace('.', "-");
    let program = scratch().join(name);
    let mut gcc = Command::new(compiler);
    gcc.args([standard, "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]);
    gcc.arg(source).arg("-o").arg(&program);
    match package {
        Some(package) => {
            let flags = tool(Command::new("pkg-config").args(["--cflags", "--libs", package]))
                .map_err(|_| format!("{package} is not installed"))?;
            gcc.args(flags.split_whitespace());
        }
        None => {
            gcc.arg("-I").arg(root().join("include")).arg("-L").arg(library());
            // Without new tags it goes before LD_LIBRARY_PATH, in which cargo names other places.
            let path = format!("-Wl,--disable-new-dtags,-rpath,{}", library().display());
            gcc.args(["-lmongostream", &path]);
        }
    }
    tool(&mut gcc)?;
    Ok(program)
}

/// Builds a Go program; what it needs of others is kept in the scratch directory.
pub(crate) fn go(source: &Path) -> Result<PathBuf, String> {
    let program = scratch().join(source.file_name().unwrap());
    let mut go = Command::new("go");
    go.args(["build", "-modcacherw", "-buildvcs=false", "-o"]).arg(&program).arg(".");
    go.current_dir(source).env("GOMODCACHE", scratch().join("go-modules"));
    go.env("PKG_CONFIG_PATH", pkg_config()).env("CGO_LDFLAGS_ALLOW", ".*");
    // Not in that file: Go does not notice there that its cache has another path.
    let library = library().display();
    let path = format!("-L{library} -Wl,--disable-new-dtags,-rpath,{library}");
    go.env("CGO_LDFLAGS", path);
    tool(&mut go)?;
    Ok(program)
}

/// The directory of a mongostream.pc for the library and header here.
fn pkg_config() -> PathBuf {
    let directory = scratch().join("pkgconfig");
    std::fs::create_dir_all(&directory).unwrap();
    let (include, library) = (root().join("include"), library().display());
    let text = format!(
        "Name: mongostream\nDescription: from the sources\nVersion: 0\nCflags: -I{}\n\
         Libs: -L{library} -lmongostream\n",
        include.display()
    );
    std::fs::write(directory.join("mongostream.pc"), text).unwrap();
    directory
}

/// Installs what the Node package needs into its own directory.
pub(crate) fn node_package() -> Result<(), String> {
    tool(Command::new("node").arg("--version"))?;
    let package = root().join("bindings/node");
    if !package.join("node_modules/koffi").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--omit=dev", "--no-audit", "--no-fund", "--no-package-lock"]);
        tool(npm.current_dir(&package))?;
    }
    Ok(())
}

/// Builds a Rust program that has other dependencies, or other features of them, than this package.
pub(crate) fn rust(source: &Path) -> Result<PathBuf, String> {
    let target = scratch().join("rust");
    let mut cargo = cargo();
    cargo.args(["build", "--release", "--locked", "--quiet"]).current_dir(source);
    tool(cargo.arg("--target-dir").arg(&target))?;
    Ok(target.join("release").join(source.file_name().unwrap()))
}

/// Installs a Python package into the scratch directory; the directory for `PYTHONPATH`.
pub(crate) fn python_package(requirement: &str) -> Result<PathBuf, String> {
    let directory = scratch().join("python");
    if !directory.join("done").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--target"]).arg(&directory).arg(requirement);
        tool(&mut pip)?;
        std::fs::write(directory.join("done"), "").unwrap();
    }
    Ok(directory)
}
