//! Where pools are: two in one place keep volumed from starting.

use std::fs;

use it::volumed::Volumed;

#[tokio::test(flavor = "multi_thread")]
async fn two_pools_in_one_folder_keep_volumed_from_starting() {
    let mut volumed = Volumed::new().await.unwrap();
    let file = volumed.path("config.toml");
    let text = fs::read_to_string(&file).unwrap();
    let link = volumed.path("link");
    std::os::unix::fs::symlink(volumed.path("volumed"), &link).unwrap();
    let second = format!(
        "[[pools]]\nname = \"second\"\npath = \"{}/pool\"\n",
        link.display()
    );
    fs::write(&file, format!("{text}{second}")).unwrap();
    fs::create_dir_all(volumed.path("volumed/pool")).unwrap();
    let error = volumed.start().await.unwrap_err().to_string();
    assert!(error.contains("pools default and second share folder"), "{error}");
}
