//! A database file with a damaged sector: after a kill the service checks the file, says so in one line, and touches nothing.

use std::fs;
use std::path::Path;

use freehold_tests::{Part, World};

use crate::applied::register;

#[tokio::test]
async fn a_service_that_was_killed_refuses_a_damaged_database_and_leaves_it_as_it_is() {
    let world = World::builder().without_broker().without_orders_service();
    let mut world = world.start().await;
    register(&world, 0..300).await;
    world.user_service.stop().await.expect("it stops"); // the whole file is written
    world.user_service.start().await.expect("it starts");
    register(&world, 300..301).await;
    world.user_service.kill();
    let page = world.user_service.damage_database().expect("damaged");
    let before = files_of(&world.user_service.database);

    for _ in 0..2 {
        let refused = world.user_service.start().await.expect_err("it is damaged");
        let status = refused.status.expect("it ended by itself");
        assert!(!status.success(), "{refused}");
        let errors: Vec<_> = refused
            .log
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert!(
            errors.len() == 1 && errors[0].contains("damaged"),
            "page {page}: {refused}"
        );
        let after = files_of(&world.user_service.database);
        assert!(after == before, "the files were touched");
    }
    world.waive_final_check(); // it cannot start
}

fn files_of(database: &Path) -> [Vec<u8>; 2] {
    let wal = format!("{}-wal", database.display());
    [database.to_owned(), wal.into()].map(|file| fs::read(file).expect("it is there"))
}
