//! Resolves an image and fetches its layers into a directory, several at once: `pull NAME DIRECTORY [PLATFORM]`.
//!
//! It exercises this crate alone, against registries at hand; also the smallest binary that links all of it.

use std::{fs::File, path::Path, process::ExitCode, time::Instant};

use rbox_image::{Client, ClientOptions, Error};
use rbox_types::Platform;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, directory, rest @ ..] = &arguments[..] else {
        eprintln!("usage: pull NAME DIRECTORY [PLATFORM]");
        return ExitCode::FAILURE;
    };
    let (Ok(reference), Ok(platform)) = (name.parse(), rest.first().map_or(Ok(Platform::host()), |text| text.parse()))
    else {
        eprintln!("not an image name, or not a platform");
        return ExitCode::FAILURE;
    };
    match pull(&reference, &platform, Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

fn pull(reference: &rbox_types::Reference, platform: &Platform, directory: &Path) -> Result<(), Error> {
    let start = Instant::now();
    let client = Client::new(ClientOptions::default());
    let image = client.resolve(reference, platform)?;
    println!("{} {} in {:?}", image.digest(), image.configuration.architecture(), start.elapsed());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let fetches: Vec<_> = image
            .layers
            .iter()
            .map(|layer| {
                let client = &client;
                scope.spawn(move || {
                    let dest = File::create(directory.join(layer.digest.hex()))
                        .map_err(|source| Error::Write { digest: layer.digest, source })?;
                    client.fetch(reference, &layer.digest, layer.size, &dest, &|_| ())
                })
            })
            .collect();
        for fetch in fetches {
            let blob = fetch.join().expect("a fetch does not panic")?;
            println!("{} {}", blob.digest(), blob.size());
        }
        Ok(())
    })?;
    println!("fetched in {:?}", start.elapsed());
    Ok(())
}
