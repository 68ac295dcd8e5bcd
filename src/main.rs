//! The binary: its allocator. What it does is in the library.

// glibc gives the pages of every batch back to the kernel and fetches them again; and over hours its arenas grow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    pintail::main()
}
