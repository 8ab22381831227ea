//! The line of the log about the start of the server.

use std::fs;

use useradmin_testkit::{App, Process, Signer, batch_section, hmc_section, pki::Authority};

use crate::{
    authorization,
    callers::{issuer_section, tls_section},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_line_describes_the_server_that_starts() {
    let (upstream, folder) = (authorization::upstream().await, App::folder());
    let authority = Authority::new();
    let targets = batch_section(&folder, &upstream.url) + &hmc_section(&folder, &upstream.url);
    let plain = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n".to_owned();
    let tls = tls_section(&folder, &authority, "");
    let issuer = issuer_section(&folder, &Signer::es256("key"));
    let caller = "[[callers]]\nidentity = \"anonymous\"\nallow = []\n";
    for (text, tls, auth, callers) in [
        (plain.clone(), false, "none", 0),
        (plain.clone() + caller, false, "none", 1),
        (plain + &issuer, false, "token", 0),
        (
            tls.replacen("client_ca_file = \"clients.pem\"\n", "", 1),
            true,
            "none",
            0,
        ),
        (tls.clone(), true, "certificate", 0),
        (tls + &issuer, true, "certificate or token", 0),
    ] {
        let file = folder.join("useradmin.toml");
        fs::write(&file, text + &targets).unwrap();
        let process = Process::start(&folder);
        let address = process.address.clone();
        process.stop();
        let lines = Process::logged(&folder, "server started");
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(line["config"], file.to_str().unwrap());
        assert_eq!(line["listen"], address);
        assert_eq!((&line["tls"], &line["auth"]), (&tls.into(), &auth.into()));
        let admin = line["admin_listen"].as_str().unwrap();
        assert_eq!(admin.starts_with("127.0.0.1:"), tls, "{admin}");
        assert!(tls || admin == "off", "{admin}");
        assert_eq!(line["targets"], "batch_accounts: 1, hmcs: 1");
        assert_eq!(line["callers"], callers);
        fs::remove_file(folder.join("log")).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}
