//! Link settings of the shared library that cargo itself does not make.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if target == "linux" {
        // Published signatures never change, so the name carries no version; without a SONAME a
        // program would remember the path that it was linked against.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libmongostream.so");
        // dlclose must not take the code away under the threads that run it.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
