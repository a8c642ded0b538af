//! Tells the build script of `egraft`, which depends on this crate, where its sources are.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:root={}", std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
}
