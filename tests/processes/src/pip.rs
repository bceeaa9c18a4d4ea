//! Packages of the Python index: every machine with Python can fetch them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::cache::run;
use crate::error::Context;

/// Downloads one package into a folder inside `partial`, and gives its file. pip refuses anything that has none of the
/// checksums of the requirement. `options` say which kind of package is wanted.
///
/// # Errors
///
/// If pip fails: `way_out` says what to do.
pub fn download(
    requirement: &str,
    options: &[&str],
    partial: &Path,
    way_out: &str,
) -> Result<PathBuf, Error> {
    let [requirements, package] = ["requirements.txt", "package"].map(|name| partial.join(name));
    fs::write(&requirements, requirement).context("cannot write to the cache")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-deps"])
        .args(["--disable-pip-version-check", "--no-cache-dir", "--require-hashes"])
        .args(options)
        .arg("--dest")
        .arg(&package)
        .arg("--requirement")
        .arg(&requirements)
        // The file grows in pip's temporary directory: there its progress can be seen.
        .env("TMPDIR", partial);
    run(&mut pip, partial, way_out)?;
    let mut files = fs::read_dir(&package).context("cannot read the cache")?;
    match files.next() {
        Some(Ok(file)) => Ok(file.path()),
        _ => Err(Error::new(format!("pip gave no package: {way_out}"))),
    }
}
