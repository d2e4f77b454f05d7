package javax.annotation;

/** Stands for the annotation of Jakarta Annotations, with which the generator marks classes. */
public @interface Generated {
    String[] value();

    String date() default "";

    String comments() default "";
}
