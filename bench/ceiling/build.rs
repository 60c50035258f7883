fn main() {
    // the linker would drop the section that holds the SQL metadata; said here rather than by
    // cargo-pgrx, so that every kind of build has the same flags and nothing is built twice
    println!("cargo::rustc-link-arg-cdylib=-Wl,--no-gc-sections");
}
