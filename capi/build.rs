//! Link settings of the shared library that cargo itself does not make, and files that `cargo cinstall` installs.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let linux = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default() == "linux";
    // Switched on by cargo-c, which sets the SONAME itself.
    let cargo_c = env::var_os("CARGO_FEATURE_CAPI").is_some();
    if linux {
        // dlclose must not take the code away under the threads that run it.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    if linux && !cargo_c {
        let soname = format!("libmongostream.so.{}", soname_version());
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
        // Programs that are linked with what cargo has built look for it by this name.
        if let Err(error) = link_beside_the_library(&soname) {
            println!("cargo:warning=there is no link {soname} beside libmongostream.so: {error}");
        }
    }
    if cargo_c && let Err(error) = write_cmake_package() {
        panic!("the CMake package: {error}");
    }
}

/// The version that is part of the SONAME, by the rule of cargo-c and semantic versioning: until 1.0 a minor version may
/// change the interface.
fn soname_version() -> String {
    let [major, minor, patch] = ["MAJOR", "MINOR", "PATCH"]
        .map(|part| env::var(format!("CARGO_PKG_VERSION_{part}")).expect("cargo sets it"));
    match (&*major, &*minor) {
        ("0", "0") => format!("0.0.{patch}"),
        ("0", _) => format!("0.{minor}"),
        _ => major,
    }
}

fn out_dir() -> PathBuf {
    PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"))
}

/// cargo puts the library two steps above the directory `build`, in which this script may write.
#[cfg(unix)]
fn link_beside_the_library(soname: &str) -> io::Result<()> {
    let out = out_dir();
    let build = out.ancestors().find(|path| path.ends_with("build"));
    let directory = build.and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
    let link = directory.join(soname);
    if fs::read_link(&link).is_ok_and(|target| target == Path::new("libmongostream.so")) {
        return Ok(());
    }
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink("libmongostream.so", link)
}

#[cfg(not(unix))]
fn link_beside_the_library(_: &str) -> io::Result<()> {
    Ok(())
}

/// As install.sh writes it.
fn write_cmake_package() -> io::Result<()> {
    let version = env::var("CARGO_PKG_VERSION").expect("cargo sets it");
    let bits = env::var("CARGO_CFG_TARGET_POINTER_WIDTH").expect("cargo sets it");
    let pointer = bits.parse::<u32>().expect("a number") / 8;
    // What lies in capi/share there is installed.
    let to = out_dir().join("capi/share");
    fs::create_dir_all(&to)?;
    for name in ["mongostreamConfig.cmake", "mongostreamConfigVersion.cmake"] {
        let from = format!("../packages/cmake/{name}.in");
        println!("cargo:rerun-if-changed={from}");
        let text = fs::read_to_string(from)?;
        let mut text =
            text.replace("@VERSION@", &version).replace("@POINTER@", &pointer.to_string());
        // It looks in the usual places as well.
        text = text.replace("@LIBDIR@", "lib").replace("@INCLUDEDIR@", "include");
        fs::write(to.join(name), text)?;
    }
    Ok(())
}
