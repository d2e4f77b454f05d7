//! Who is measured: the functions as they are deployed, and what they are compared with. All are built
//! here, each by its own tool in a process of its own, so that nothing this program needs gets into
//! them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use chat_local::{
    binaries::executables,
    template::{Setting, Template, workspace_root},
};
use flate2::{Compression, write::DeflateEncoder};

use crate::{Result, world::World};

/// The Rust function without the SDK.
pub const BARE: &str = "bare Rust function";
/// The Rust function with the SDK's defaults.
pub const SDK_DEFAULTS: &str = "get-totals, SDK defaults";

/// A function that is measured.
pub struct Contestant {
    /// What it is called in reports.
    pub name: String,
    /// The function whose events it is given.
    pub function: String,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    /// What is deployed of it.
    artefact: PathBuf,
    environment: BTreeMap<String, String>,
}

/// Bytes of what is deployed.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// As it is.
    pub plain: u64,
    /// Deflated at the highest level, as in a zip file.
    pub zipped: u64,
}

impl Contestant {
    /// The command that starts it, with nothing of this process's environment.
    pub fn command(&self, world: &World) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear();
        command.envs(&self.environment).envs(world.environment());
        if self.name == SDK_DEFAULTS {
            command.env("SSL_CERT_FILE", world.system_certificates());
        }
        command
    }

    /// How large what is deployed is.
    pub fn size(&self) -> Result<Size> {
        let plain = std::fs::read(&self.artefact)?;
        let mut zipped = DeflateEncoder::new(Vec::new(), Compression::best());
        zipped.write_all(&plain)?;
        let length = |bytes: &[u8]| u64::try_from(bytes.len());
        Ok(Size {
            plain: length(&plain)?,
            zipped: length(&zipped.finish()?)?,
        })
    }

    /// A program that has been built. What is measured is a copy: a linker writes each file in another
    /// order, and the system then reads some of them back in smaller pieces, which alone makes a start
    /// up to half as long again.
    fn executable(name: &str, function: &str, built: &Path) -> Result<Self> {
        let folder = workspace_root().join("target/bench");
        let file = built.file_name().ok_or("a program has a name")?;
        let copy = folder.join(file);
        std::fs::create_dir_all(&folder)?;
        // A new file, as the old one may be what a process still runs.
        let _ = std::fs::remove_file(&copy);
        std::fs::write(&copy, std::fs::read(built)?)?;
        std::fs::set_permissions(&copy, std::fs::metadata(built)?.permissions())?;
        Ok(Self {
            name: name.to_owned(),
            function: function.to_owned(),
            program: copy.clone(),
            arguments: Vec::new(),
            artefact: copy,
            environment: BTreeMap::new(),
        })
    }
}

/// The release binaries of these functions, with the environment that the template gives them.
pub async fn functions(template: &Template, names: &[String]) -> Result<Vec<Contestant>> {
    let mut arguments = vec!["--release", "--locked", "--package", "chat-functions"];
    arguments.extend(names.iter().flat_map(|name| ["--bin", name]));
    let binaries = executables(&workspace_root(), &arguments).await?;
    let made = names.iter().map(|name| {
        let binary = binaries.iter().find(|it| it.ends_with(name));
        let binary = binary.ok_or_else(|| format!("cargo made no {name}"))?;
        let mut contestant = Contestant::executable(name, name, binary)?;
        let functions = template.functions.iter();
        let function = functions.filter(|it| it.binary == *name);
        for (variable, setting) in function.flat_map(|it| &it.environment) {
            // The table's name and the secret are the world's.
            if let Setting::Value(value) = setting {
                let variable = variable.clone();
                contestant.environment.insert(variable, value.clone());
            }
        }
        Ok(contestant)
    });
    made.collect()
}

/// What the functions are compared with: Rust, and Node where it is installed.
pub async fn baselines() -> Result<Vec<Contestant>> {
    let folder = workspace_root().join("bench/baselines");
    let target = workspace_root().join("target/baselines");
    let target = target.to_string_lossy();
    let mut contestants = Vec::new();
    // One after the other: built together, each would get the other's features.
    for (package, name) in [("bare", BARE), ("sdk-defaults", SDK_DEFAULTS)] {
        let arguments = [
            "--release",
            "--locked",
            "--package",
            package,
            "--target-dir",
            &target,
        ];
        let binaries = executables(&folder, &arguments).await?;
        let binary = binaries
            .into_iter()
            .next()
            .ok_or("cargo made no baseline")?;
        contestants.push(Contestant::executable(name, "get-totals", &binary)?);
    }
    match node()? {
        Some(node) => contestants.extend(node),
        None => eprintln!("Node is not compared with: `node` or `npm` is not installed."),
    }
    Ok(contestants)
}

/// Bundles the Node functions away from the sources; `None` without Node.
fn node() -> Result<Option<[Contestant; 2]>> {
    let sources = workspace_root().join("bench/node");
    let folder = workspace_root().join("target/node");
    let Some(node) = find("node").filter(|_| find("npm").is_some()) else {
        return Ok(None);
    };
    std::fs::create_dir_all(&folder)?;
    for file in std::fs::read_dir(sources)? {
        let file = file?;
        if file.file_type()?.is_file() {
            std::fs::copy(file.path(), folder.join(file.file_name()))?;
        }
    }
    for arguments in [&["ci", "--no-audit", "--no-fund"][..], &["run", "build"]] {
        let mut npm = Command::new("npm");
        npm.args(arguments).arg("--silent").current_dir(&folder);
        // A script's chatter is not this program's output.
        if !npm.stdout(std::io::stderr()).status()?.success() {
            return Err(format!("npm {} failed", arguments.join(" ")).into());
        }
    }
    Ok(Some(["get-totals", "send-message"].map(|function| {
        let bundle = folder.join(format!("dist/{function}.js"));
        Contestant {
            name: format!("{function}, Node"),
            function: function.to_owned(),
            program: node.clone(),
            arguments: vec![folder.join("bootstrap.cjs"), bundle.clone()],
            artefact: bundle,
            environment: BTreeMap::new(),
        }
    })))
}

/// A program's place.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| Path::is_file(place))
}
