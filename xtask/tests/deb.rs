//! Every path that the .deb and its units name is there: what `cargo-deb`, systemd or dpkg would find out late.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Table;

/// Where cargo-deb looks for what was built, whatever the target folder is.
const BUILT: &str = "target/release/";
/// Where the licences of others are written before it packs.
const LICENCES: &str = "target/release/licences/THIRD-PARTY.gz";
/// Where the manual is written before it packs, and the ends of what is.
const MANUAL: &str = "target/release/manual/";
const MANUAL_ENDS: [&str; 3] = [".1.gz", ".bash", ".fish"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manifest(member: &str) -> Table {
    read(&format!("{member}/Cargo.toml")).parse().unwrap()
}

/// Files that a source of an asset stands for: a path from `agent`, perhaps with one `*` in its name.
fn files(source: &str) -> Vec<String> {
    let (folder, name) = source.rsplit_once('/').unwrap();
    let (before, after) = name.split_once('*').unwrap_or((name, ""));
    let entries =
        fs::read_dir(root().join("agent").join(folder)).unwrap_or_else(|why| panic!("{source}: {why}"));
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|n| if name.contains('*') { n.starts_with(before) && n.ends_with(after) } else { n == name })
        .collect()
}

/// Where everything goes in the package.
fn installed() -> BTreeSet<String> {
    let manifests = ["agent", "market"].map(manifest);
    let bins = manifests.iter().flat_map(|manifest| manifest["bin"].as_array().unwrap());
    let programs: BTreeSet<&str> = bins.map(|bin| bin["name"].as_str().unwrap()).collect();
    let deb = &manifests[0]["package"]["metadata"]["deb"];
    let mut installed = BTreeSet::new();
    for asset in deb["assets"].as_array().unwrap() {
        let (source, place) = (asset[0].as_str().unwrap(), asset[1].as_str().unwrap());
        let names = match source.strip_prefix(MANUAL).or_else(|| source.strip_prefix(BUILT)) {
            Some(page) if source.starts_with(MANUAL) => {
                let known = page == "_*" || MANUAL_ENDS.iter().any(|end| page.ends_with(end));
                assert!(known, "{source}: the manual has no such file");
                vec![page.to_owned()]
            }
            Some(name) if source == LICENCES => vec![name.rsplit_once('/').unwrap().1.to_owned()],
            Some(program) => {
                assert!(programs.contains(program), "{source}: no program has this name");
                vec![program.to_owned()]
            }
            None => files(source),
        };
        assert!(!names.is_empty(), "{source}: nothing is there");
        let to = |name: &String| {
            if place.ends_with('/') { format!("/{place}{name}") } else { format!("/{place}") }
        };
        installed.extend(names.iter().map(to));
    }
    let units = deb["systemd-units"]["unit-scripts"].as_str().unwrap();
    let own = format!("{units}/{}.service", deb["name"].as_str().unwrap());
    installed.extend(files(&own).iter().map(|name| format!("/usr/lib/systemd/system/{name}")));
    installed
}

#[test]
fn everything_that_the_package_names_is_there() {
    let deb = manifest("agent")["package"]["metadata"]["deb"].clone();
    for key in ["changelog", "maintainer-scripts"] {
        let path = Path::new("agent").join(deb[key].as_str().unwrap());
        assert!(root().join(&path).exists(), "{key}: {}", path.display());
    }
    let license = Path::new("agent").join(deb["license-file"][0].as_str().unwrap());
    assert!(root().join(&license).is_file(), "{}", license.display());
    assert!(installed().contains("/usr/share/doc/posthouse/THIRD-PARTY.gz"), "licences of others");
}

/// The pages have the folders of the sources, where editors and GitHub follow the same links.
#[test]
fn what_its_pages_link_to_is_in_the_package() {
    const PAGES: &str = "/usr/share/doc/posthouse/";
    let installed = installed();
    let pages: BTreeSet<&str> = installed.iter().filter_map(|path| path.strip_prefix(PAGES)).collect();
    let mut links = 0;
    for page in pages.iter().filter(|page| page.ends_with(".md") && !page.starts_with("examples/")) {
        let text = read(page);
        for link in ["](", "src=\""].iter().flat_map(|mark| text.split(mark).skip(1)) {
            let target = link.split([')', '"', '#']).next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let mut to: Vec<&str> = page.split('/').collect();
            to.pop();
            for part in target.split('/') {
                if part == ".." { assert!(to.pop().is_some(), "{page}: {target}") } else { to.push(part) }
            }
            assert!(pages.contains(to.join("/").as_str()), "{page}: {target} is not in the package");
            links += 1;
        }
    }
    assert!(links > 20, "{links} links were found");
}

#[test]
fn everything_that_a_unit_names_is_in_the_package() {
    let installed = installed();
    let users = read("packaging/debian/posthouse.sysusers");
    let users: BTreeSet<&str> = users.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let mut sandboxes = Vec::new();
    for entry in fs::read_dir(root().join("systemd")).unwrap() {
        let unit = entry.unwrap().file_name().into_string().unwrap();
        assert!(installed.contains(&format!("/usr/lib/systemd/system/{unit}")), "{unit} is not installed");
        let text = read(&format!("systemd/{unit}"));
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("{unit}: {key}"))
        };
        for path in value("ExecStart").split(' ').filter(|word| word.starts_with('/')) {
            assert!(installed.contains(path), "{unit}: {path}");
        }
        let page = value("Documentation").strip_prefix("man:").unwrap().replace("(1)", ".1.gz");
        let program = page.trim_end_matches(".1.gz");
        assert!(installed.contains(&format!("/usr/bin/{program}")), "{unit}: {page}");
        assert!(users.contains(value("User")), "{unit}: {}", value("User"));
        assert_eq!(value("User"), value("Group"), "{unit}");
        assert_eq!(value("User"), value("StateDirectory"), "{unit}");
        let configuration = format!("/etc/{}/", value("ConfigurationDirectory"));
        assert!(installed.iter().any(|path| path.starts_with(&configuration)), "{unit}: {configuration}");
        // The gateway alone names users, who order over its socket.
        let sandbox = text.split_once("\nUMask=").unwrap().1.lines();
        sandboxes.push(sandbox.filter(|line| !line.contains("PrivateUsers=")).collect::<Vec<_>>().join("\n"));
    }
    assert_eq!(sandboxes.len(), 3);
    assert!(sandboxes.iter().all(|one| *one == sandboxes[0]), "one sandbox for all");
}
